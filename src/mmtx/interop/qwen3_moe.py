"""Qwen 3 with experts (Yang et al. 2025, arXiv 2505.09388), as `transformers` stores it."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Key, Keys, used
from mmtx.interop.expert_decoder import BALANCE_KEYS, DENSE, ExpertDecoder
from mmtx.interop.family import Config
from mmtx.interop.feed_forward import hidden_width
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder

FIRST = Key(
    "harmless",
    "the first layer that has a window, which newer versions give to all",
    "0, or anything without a window",
    lambda value, content: not (value and content.get("use_sliding_window") and content.get("sliding_window")),
)


class Qwen3MoE(ExpertDecoder):
    name = "qwen3_moe"
    body = "Qwen3MoeModel"
    kinds = ("Qwen3MoeForCausalLM", "Qwen3MoeModel")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        **BALANCE_KEYS,
        "vocab_size": used("ids", 151936),
        "hidden_size": used("width", 2048),
        "intermediate_size": used("width of the feed-forward half in layers without experts", 6144),
        "num_hidden_layers": used("layers", 24),
        "num_key_value_heads": used("heads of keys and values", 4),
        "max_position_embeddings": used("context", 32768),
        "eos_token_id": used("ends a text; one id or several", None),
        "attention_bias": used("biases of attention, all four", False),
        "use_sliding_window": used("whether layers have a window", False),
        "sliding_window": used("the window of all layers, in tokens, itself included; null: none", 4096),
        "max_window_layers": FIRST,
        "num_local_experts": used("experts", 128),
        "num_experts_per_tok": used("experts that a token takes", 8),
        "moe_intermediate_size": used("width of one expert", 768),
        "norm_topk_prob": used("whether the weights of a token's experts are divided by their sum", False),
        "decoder_sparse_step": used("every so many layers have experts", 1),
        "mlp_only_layers": used("layers without experts beside those", []),
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    nullable = (*RotaryDecoder.nullable, "sliding_window")
    qk_norm = "head"
    width = "moe_intermediate_size"

    def dense_layers(self, config: Config) -> Collection[int]:
        step, without = config["decoder_sparse_step"], config["mlp_only_layers"]
        return [layer for layer in range(config["num_hidden_layers"]) if layer in without or (layer + 1) % step]

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        count = backbone["num_layers"]
        letters, dense = (backbone["layers"] * count)[:count], backbone["kinds"].get(DENSE)
        has_window = bool("L" in letters or DENSE in letters and dense["window"])
        width = {"intermediate_size": hidden_width(dense["mlp"], backbone["dim"])} if DENSE in letters else {}
        return {
            **width,
            "use_sliding_window": has_window,
            "sliding_window": backbone["window"] if has_window else None,
            "mlp_only_layers": [layer for layer, letter in enumerate(letters) if letter == DENSE],
        }
