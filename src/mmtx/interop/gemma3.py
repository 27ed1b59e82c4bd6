"""Gemma 3 without pictures (Gemma team 2025, arXiv 2503.19786): a window and a rotary base of their own in five layers
of six; queries and keys normalised head by head."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.data.files.supported_keys import Keys, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config, at
from mmtx.interop.gemma import GEMMA_KEYS, Gemma
from mmtx.interop.layer_types import FULL, SLIDING
from mmtx.interop.links import Weights
from mmtx.interop.rope import rope_keys

LOCAL = "backbone.kinds.L.rotary"


class Gemma3(Gemma):
    name = "gemma3_text"
    body = "Gemma3TextModel"
    kinds = ("Gemma3ForCausalLM", "Gemma3TextModel")
    keys: ClassVar[Keys] = {
        **GEMMA_KEYS,
        **rope_keys(1e6),
        "rope_parameters": used("these of both kinds of layers, as version 5 of `transformers` writes them"),
        "rope_local_base_freq": used("base of the rotary positions of layers with a window", 10000.0),
        "vocab_size": used("ids", 262208),
        "max_position_embeddings": used("context", 131072),
        "attn_logit_softcapping": only(note="nothing of the family reads it"),
        "final_logit_softcapping": used("scores of ids are kept within it", None),
        "sliding_window_pattern": used("one layer of so many has no window; `layer_types` goes before", 6),
        "_sliding_window_pattern": harmless("the same as it was; nothing reads it"),
    }
    qk_norm = "head"

    def complete(self, config: Config, weights: Weights) -> Config:
        """As `Family.complete`. Raises UserError also for rotary positions of other kinds of layers, or where those of
        layers with a window are scaled."""
        config = dict(config)
        both = dict(config.pop("rope_parameters", None) or {})
        full, local = (both.pop(kind, None) or {} for kind in (FULL, SLIDING))
        if both:
            raise UserError(f"rope_parameters has {next(iter(both))}; mmtx reads {FULL} and {SLIDING}")
        base = local.get("rope_theta")
        for key, value in local.items():
            if key != "rope_theta" and value not in (None, "default"):
                raise UserError(f"rope_parameters of {SLIDING} has {key}={value}; mmtx scales those of {FULL} alone")
        config["rope_scaling"] = {**full, **(config.get("rope_scaling") or {})} or None
        config |= {} if base is None else {"rope_local_base_freq": base}
        return super().complete(config, weights)

    def read_layers(self, config: Config) -> dict[str, Any]:
        local = {"_target_": "mmtx.nn.Rotary", "axes": ["time"], "base": float(config["rope_local_base_freq"])}
        return super().read_layers(config) | {LOCAL: {**local, "scaling": None, "fraction": None}}

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        return super().write_layers(backbone) | {"rope_local_base_freq": at(backbone, "kinds.L.rotary.base")}

    def _every(self, config: Config) -> int:
        return int(config["sliding_window_pattern"])
