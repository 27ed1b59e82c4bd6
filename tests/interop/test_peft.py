"""Low-rank updates as the library peft reads and writes them: equal outputs in both directions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from public import (  # noqa: E402  # noqa: E402
    CASES,
    clip,
    dinov2,
    gpt2,
    llama,
    pair_inputs,
    saved,
    t5,
    t5_inputs,
    text_inputs,
    vit,
    vit_inputs,
    whisper,
    whisper_inputs,
)
from test_beginning import changed  # noqa: E402
from test_equality import compared  # noqa: E402

import mmtx  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402
from mmtx.interop.peft_config import CONFIG, KEYS  # noqa: E402
from mmtx.interop.peft_read import with_adapters  # noqa: E402
from mmtx.interop.peft_write import write_adapters  # noqa: E402
from mmtx.nn.low_rank_update import LowRank, merge_updates, updates_of  # noqa: E402
from mmtx.run.init_from import initialise_from  # noqa: E402


def swiglu_dinov2() -> Any:
    return dinov2(**CASES["dinov2-headless"][1])


DORA = {"use_dora": True, "rank_pattern": {"up_proj": 3}, "alpha_pattern": {"q_proj": 5}}
ADAPTED = {
    "llama": (llama, text_inputs, ["q_proj", "v_proj", "up_proj"], DORA),
    "gpt2": (gpt2, text_inputs, ["c_attn", "c_fc"], {"use_rslora": True, "modules_to_save": ["ln_f"]}),
    "vit": (vit, vit_inputs, ["q_proj", "fc2"], {"use_dora": True, "modules_to_save": ["classifier"]}),
    "t5": (t5, t5_inputs, "all-linear", {}),
    "whisper": (whisper, whisper_inputs, r".*(k|v)_proj$|.*fc1", {}),
    "dinov2": (swiglu_dinov2, vit_inputs, "all-linear", {"use_dora": True}),
    "clip": (clip, pair_inputs, "all-linear", {"exclude_modules": ["visual_projection"]}),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def adapted(base: Any, targets: Any, folder: Path, **settings: Any) -> Any:
    """A model of peft with updates that are not zero, which a folder holds."""
    made = peft.get_peft_model(base, peft.LoraConfig(target_modules=targets, r=2, **settings)).eval()
    for name, parameter in made.named_parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter.data, mean=float("magnitude" in name), std=0.3)
    made.save_pretrained(folder)
    return made


def close(ours: Any, theirs: Any, real: Any) -> None:
    for _, mine, other in compared(ours, theirs, real):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ADAPTED)
def test_in_and_out(name: str, tmp_path: Path) -> None:
    """What peft wrote computes the same here; and what is written of it, the same there."""
    make, make_inputs, targets, settings = ADAPTED[name]
    base = make()
    saved(base, tmp_path / "base")
    inputs, real = make_inputs(base)
    theirs = adapted(base, targets, tmp_path / "adapters", **settings)
    expected = theirs(**inputs)
    ours = with_adapters(mmtx.from_pretrained(tmp_path / "base"), tmp_path / "adapters")
    close(mmtx.interop.forward(ours, **inputs), expected, real)
    write_adapters(ours, tmp_path / "again")
    plain = type(base).from_pretrained(tmp_path / "base").eval()
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "again").eval()(**inputs)
    for _, mine, other in compared(dict(again), expected, real):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)
    merge_updates(ours)
    close(mmtx.interop.forward(ours, **inputs), expected, real)


@pytest.mark.parametrize(
    ("name", "magnitudes"),
    [("llama", True), ("dinov2", False), ("dinov2-registers", True), ("bert-pretraining", True)],
)
def test_what_was_learnt_here(name: str, magnitudes: bool, tmp_path: Path) -> None:
    """One update of queries, keys and values together is three there; all but updates is the public model's."""
    make, changes, make_inputs = CASES[name]
    base = make(**changes)
    imported = mmtx.from_pretrained(saved(base, tmp_path / "base"))
    lora = {"_target_": "mmtx.nn.LoRA", "rank": 2, "alpha": 3.0, "targets": ["model.*.attention.qkv", "*.mlp.down"]}
    lora |= {"magnitudes": magnitudes, "rank_stabilised": True}
    ours = rebuild(changed(imported, freeze=["*"], lora=lora, init_from="hub://a/b@c0ffee"), imported.specs)
    initialise_from(ours, str(tmp_path / "base"), [])
    for update in (each for each in ours.modules() if isinstance(each, LowRank)):
        nn.init.normal_(update.up, std=0.3)
    write_adapters(ours, tmp_path / "adapters")
    described = json.loads((tmp_path / "adapters" / CONFIG).read_text())
    assert (described["base_model_name_or_path"], described["revision"]) == ("a/b", "c0ffee")
    inputs, real = make_inputs(base)
    plain = type(base).from_pretrained(tmp_path / "base").eval()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapters").eval()
    close(mmtx.interop.forward(ours, **inputs), theirs(**inputs), real)
    again = with_adapters(imported, tmp_path / "adapters")
    close(mmtx.interop.forward(again, **inputs), theirs(**inputs), real)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    base = gpt2()
    saved(base, tmp_path / "base")
    theirs = adapted(base, ["c_attn"], tmp_path / "adapters")
    assert main(["import", "base", "run", "adapters=adapters"]) == 0
    assert main(["export", "run", "again", "--format", "peft"]) == 0
    inputs, real = text_inputs(base)
    close(mmtx.interop.forward(mmtx.load("run"), **inputs), theirs(**inputs), real)
    assert "PeftModel.from_pretrained" in Path("again/README.md").read_text()
    assert main(["import", "base", "plain"]) == 0
    capsys.readouterr()
    assert main(["export", "plain", "adapters2", "--format", "peft"]) == 2
    assert "this model has no low-rank updates (lora); --format hf writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type=LOHA (another kind of update)"),
        ({"bias": "all"}, 'bias=all (biases that learnt); mmtx can "none"'),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa (base weights that changed as well)"),
        ({"lora_bias": True}, "lora_bias=True (biases of updates)"),
        ({"target_parameters": ["x"]}, "target_parameters=['x']"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices=[1]"),
        ({"layer_replication": [[0, 1]]}, "layer_replication=[[0, 1]]"),
        ({"new_key": 1}, "unknown key new_key=1"),
        ({"r": 7}, "transformer.h.0.attn.c_attn has rank 2, and by adapter_config.json 7"),
        ({"use_dora": True}, "transformer.h.0.attn.c_attn has no lora_magnitude_vector, and by adapter_config.json"),
    ],
)
def test_what_cannot_be_followed(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path / "base"))
    adapted(gpt2(), ["c_attn"], tmp_path / "adapters")
    file = tmp_path / "adapters" / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(UserError, match=re.escape(message)):
        with_adapters(imported, tmp_path / "adapters")


def test_adapters_of_another_model(tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path / "base"))
    adapted(gpt2(n_layer=3), ["c_attn"], tmp_path / "deeper")
    with pytest.raises(UserError, match=r"this gpt2 has no linear map transformer.h.2.attn.c_attn"):
        with_adapters(imported, tmp_path / "deeper")
    adapted(gpt2(n_embd=12), ["c_attn"], tmp_path / "narrower")
    with pytest.raises(UserError, match=r"transformer.h.0.attn.c_attn is a map of \(36, 12\), here \(72, 24\)"):
        with_adapters(imported, tmp_path / "narrower")
    adapted(gpt2(), ["c_attn", "wte"], tmp_path / "embedding")
    with pytest.raises(UserError, match=r"transformer.wte.lora_embedding_A is of another kind of update"):
        with_adapters(imported, tmp_path / "embedding")


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ([], "model.tokenizers.text.embedding.weight learns, and peft has no place for it; freeze="),
        (
            ["*embedding*"],
            "attention.qkv.weight, model.backbone.blocks.1.attention.qkv.weight learn besides their updates",
        ),
    ],
)
def test_what_else_learns(freeze: list[str], message: str, tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path / "base"))
    lora = {"_target_": "mmtx.nn.LoRA", "rank": 2, "alpha": 4.0, "targets": ["*attention.qkv"]}
    ours = rebuild(changed(imported, freeze=freeze, lora=lora), imported.specs)
    initialise_from(ours, str(tmp_path / "base"), [])
    with pytest.raises(UserError, match=re.escape(message)):
        write_adapters(ours, tmp_path / "out")


def test_all_keys_of_peft_are_known() -> None:
    assert {*peft.LoraConfig().to_dict()} <= {*KEYS}
    assert not updates_of(nn.Linear(2, 2))
