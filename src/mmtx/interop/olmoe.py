"""OLMoE (Muennighoff et al. 2024, arXiv 2409.02060): norms over all heads, and many small experts."""

from collections.abc import Mapping
from typing import ClassVar

from mmtx.data.files.supported_keys import Keys, used
from mmtx.interop.expert_decoder import BALANCE_KEYS, ExpertDecoder
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder


class OLMoE(ExpertDecoder):
    name = "olmoe"
    body = "OlmoeModel"
    kinds = ("OlmoeForCausalLM", "OlmoeModel")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        **BALANCE_KEYS,
        "vocab_size": used("ids", 50304),
        "hidden_size": used("width", 2048),
        "intermediate_size": used("width of one expert", 2048),
        "num_hidden_layers": used("layers", 16),
        "num_attention_heads": used("heads", 16),
        "max_position_embeddings": used("context", 4096),
        "rms_norm_eps": used("normalisation", 1e-5),
        "eos_token_id": used("ends a text; one id or several", 50279),
        "attention_bias": used("biases of attention, all four", False),
        "clip_qkv": used("queries, keys and values are kept within ± this; null: as they are", None),
        "num_experts": used("experts", 64),
        "num_experts_per_tok": used("experts that a token takes", 8),
        "norm_topk_prob": used("whether the weights of a token's experts are divided by their sum", False),
        "router_aux_loss_coef": used(BALANCE_KEYS["router_aux_loss_coef"].note, 0.01),
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}
    same = {**RotaryDecoder.same, "backbone.attention.clip": "clip_qkv"}
    qk_norm = "all"
    count = "num_experts"
