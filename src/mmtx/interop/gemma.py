"""What Gemma 2 and 3 share beside Llama: four norms a block, which multiply by one more than their weight; embeddings
times the root of the width; scores divided by the root of a number of their own; softcaps; windows of some layers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config, Described, Files, at
from mmtx.interop.layer_types import FULL, SLIDING, read_types, write_types
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder

GEMMA_KEYS: Keys = {
    **{key: value for key, value in DECODER_KEYS.items() if key != "hidden_act"},
    "vocab_size": used("ids", 256000),
    "hidden_size": used("width", 2304),
    "intermediate_size": used("width of the feed-forward half", 9216),
    "num_hidden_layers": used("layers", 26),
    "num_attention_heads": used("heads", 8),
    "num_key_value_heads": used("heads of keys and values", 4),
    "head_dim": used("width of a head", 256),
    "hidden_activation": used("activation of the gate", "gelu_pytorch_tanh"),
    "hidden_act": harmless("`hidden_activation` goes before"),
    "eos_token_id": used("ends a text; one id or several", 1),
    "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", True),
    "attention_bias": used("biases of attention, all four", False),
    "query_pre_attn_scalar": used("its root divides scores of attention", 256),
    "sliding_window": used("the window, in tokens, itself included", 4096),
    "layer_types": used("which layers have it", None),
    "attn_logit_softcapping": used("scores of attention are kept within it; null: as they are", 50.0),
    "final_logit_softcapping": used("scores of ids are kept within it; null: as they are", 30.0),
    "use_bidirectional_attention": only(False, note="every token attends to all"),
}


class Gemma(RotaryDecoder):
    """A Gemma from the second on."""

    nullable = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
    norm_place = "both"
    norms: ClassVar[Mapping[str, str]] = {
        "attention_norm": "input_layernorm",
        "attention_branch_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_branch_norm": "post_feedforward_layernorm",
    }
    norm_adds_one = True
    activation_key = "hidden_activation"
    same = {
        **RotaryDecoder.same,
        "backbone.attention.scale": "query_pre_attn_scalar",
        "objective.next_token.softcap": "final_logit_softcapping",
    }
    every: ClassVar[int]
    """One layer of so many has no window, where ``layer_types`` is not given."""

    def describe(self, config: Config, files: Files) -> Described:
        described = super().describe(config, files)
        described.values["modality.text.embedding_scale"] = config["hidden_size"] ** 0.5
        return described

    def read_layers(self, config: Config) -> dict[str, Any]:
        """Raises UserError for other kinds of layers, or for a window that is not given."""
        count, every = config["num_hidden_layers"], self._every(config)
        types = config["layer_types"] or [SLIDING if (layer + 1) % every else FULL for layer in range(count)]
        return read_types(types, count, config["sliding_window"])

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        return {"layer_types": write_types(backbone), "sliding_window": backbone["window"]}

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        if isinstance(at(ours, "backbone.attention.scale"), bool):
            raise UserError("backbone.attention.scale is a number there")
        return super().config(ours, specs)

    def _every(self, config: Config) -> int:
        return self.every
