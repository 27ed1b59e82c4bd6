"""Qwen 3 (Yang et al. 2025, arXiv 2505.09388): queries and keys normalised, head by head."""

from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.qwen import QWEN_KEYS, Qwen


class Qwen3(Qwen):
    name = "qwen3"
    body = "Qwen3Model"
    kinds = ("Qwen3ForCausalLM", "Qwen3Model")
    keys: ClassVar[Keys] = {
        **QWEN_KEYS,
        "head_dim": used("width of a head", 128),
        "attention_bias": used("biases of attention, all four", False),
    }
    qk_norm = "head"
