"""Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama with a window, as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.family import Config
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder


class Mistral(RotaryDecoder):
    name = "mistral"
    body = "MistralModel"
    kinds = ("MistralForCausalLM", "MistralModel")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        "intermediate_size": used("width of the feed-forward half", 14336),
        "num_key_value_heads": used("heads of keys and values; null: as many", 8),
        "max_position_embeddings": used("context", 131072),
        "sliding_window": used("tokens that each attends to, itself included; null: all", 4096),
    }
    nullable = (*RotaryDecoder.nullable, "sliding_window")

    def read_layers(self, config: Config) -> dict[str, Any]:
        window = config["sliding_window"]
        return {"backbone.layers": "G" if window is None else "L", "backbone.window": window}

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        return {"sliding_window": backbone["window"] if "L" in backbone["layers"] else None}
