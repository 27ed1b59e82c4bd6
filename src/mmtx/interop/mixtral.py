"""Mixtral (Jiang et al. 2024, arXiv 2401.04088): Mistral with experts, as `transformers` stores it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Keys, only, used
from mmtx.interop.expert_decoder import BALANCE_KEYS, ExpertDecoder
from mmtx.interop.family import Config
from mmtx.interop.rope import rope_keys
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder


class Mixtral(ExpertDecoder):
    name = "mixtral"
    body = "MixtralModel"
    kinds = ("MixtralForCausalLM", "MixtralModel")
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        **BALANCE_KEYS,
        **rope_keys(1e6),
        "intermediate_size": used("width of one expert", 14336),
        "num_key_value_heads": used("heads of keys and values; null: as many", 8),
        "rms_norm_eps": used("normalisation", 1e-5),
        "max_position_embeddings": used("context", 131072),
        "sliding_window": used("tokens that each attends to, itself included; null: all", None),
        "num_local_experts": used("experts", 8),
        "num_experts_per_tok": used("experts that a token takes", 2),
        "router_jitter_noise": only(0, note="noise on what routers read in training"),
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    nullable = (*RotaryDecoder.nullable, "sliding_window")
    renames = (*RotaryDecoder.renames, (r"\.mlp\.(?=gate\.|experts\.)", ".block_sparse_moe."))
    fused: ClassVar[Mapping[str, Sequence[str]]] = {
        r"experts\.gate_up_proj$": ("experts.{}.w1.weight", "experts.{}.w3.weight"),
        r"experts\.down_proj$": ("experts.{}.w2.weight",),
    }
    parts = ("w1", "w3", "w2")
    module = "block_sparse_moe"

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        return {"sliding_window": backbone["window"] if "L" in backbone["layers"] else None}
