"""OLMo 2 (Team OLMo 2025, arXiv 2501.00656): norms on the branches, and over all heads of queries and of keys."""

from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder


class Olmo2(RotaryDecoder):
    name = "olmo2"
    body = "Olmo2Model"
    kinds = ("Olmo2ForCausalLM", "Olmo2Model")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        "vocab_size": used("ids", 50304),
        "rms_norm_eps": used("normalisation", 1e-5),
        "eos_token_id": used("ends a text; one id or several", 50279),
        "attention_bias": used("biases of attention, all four", False),
    }
    qk_norm = "all"
    norm_place = "branch"
    norms: ClassVar[dict[str, str]] = {
        "attention_norm": "post_attention_layernorm",
        "mlp_norm": "post_feedforward_layernorm",
    }
