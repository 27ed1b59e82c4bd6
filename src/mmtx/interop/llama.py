"""Llama 2 and 3 (Touvron et al. 2023, arXiv 2307.09288; Llama team 2024, arXiv 2407.21783), SmolLM2 and others of their
architecture, as `transformers` stores them."""

from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder


class Llama(RotaryDecoder):
    name = "llama"
    body = "LlamaModel"
    kinds = ("LlamaForCausalLM", "LlamaModel")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        "attention_bias": used("biases of attention, all four", False),
        "mlp_bias": used("biases of the feed-forward half", False),
    }
