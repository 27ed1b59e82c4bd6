"""Keys of an ``adapter_config.json``, as the library peft writes it, and what they say of each linear map."""

import re
from collections.abc import Mapping
from typing import Any

from mmtx.data.files.supported_keys import Keys, every, harmless, only, used

PREFIX = "base_model.model."
"""What peft puts in front of the name of every module."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OTHER = "another kind of update"

KEYS: Keys = {
    "peft_type": only("LORA", note=OTHER),
    "r": used("rank", 8),
    "rank_pattern": used("rank of maps whose names match", {}),
    "lora_alpha": used("scale", 8),
    "alpha_pattern": used("scale of maps whose names match", {}),
    "use_rslora": used("the scale is over the root of the rank", False),
    "use_dora": used("lengths of rows are learnt by themselves", False),
    "lora_dropout": used("dropout of the features that an update is applied to", 0.0),
    "modules_to_save": used("modules that are in the file as a whole"),
    "target_modules": harmless("the file shows which maps have updates"),
    **every("exclude_modules layers_to_transform layers_pattern", harmless("the file shows which maps have updates")),
    "fan_in_fan_out": harmless("the shapes of updates are the same either way"),
    "init_lora_weights": only(True, False, "gaussian", "orthogonal", "eva", note="base weights that changed as well"),
    **every("loftq_config", only({}, note="base weights that changed as well")),
    **every("corda_config lora_ga_config", only(note="base weights that changed as well")),
    "bias": only("none", note="biases that learnt"),
    "lora_bias": only(False, note="biases of updates"),
    "target_parameters": only([], note="updates of parameters that are of no linear map"),
    "trainable_token_indices": only(note="rows of an embedding that learnt"),
    "layer_replication": only(note="layers that stand there several times"),
    "use_qalora": only(False, note=OTHER),
    "ensure_weight_tying": only(False, note="weights that are tied"),
    **every("use_bdlora kasa_config velora_config monteclora_config arrow_config", only(note=OTHER)),
    "alora_invocation_tokens": only(note="updates of some tokens alone"),
    "megatron_config": only(note="layers of Megatron"),
    **every("megatron_core qalora_group_size eva_config", harmless("of what is refused or only begins training")),
    **every("task_type auto_mapping base_model_name_or_path revision", harmless("what it is for")),
    **every("inference_mode runtime_config peft_version", harmless("how it is run")),
}
"""What mmtx does with each. Unknown ones are refused."""


def of_module(config: Mapping[str, Any], key: str, module: str) -> Any:
    """The rank (``r``, ``rank_pattern``) or the scale of a module: that of the first pattern that its name ends in."""
    usual, pattern = {"rank": "r", "alpha": "lora_alpha"}[key], f"{key}_pattern"
    found = (value for name, value in (config.get(pattern) or {}).items() if re.fullmatch(rf"(.*\.)?({name})", module))
    return next(found, config[usual])
