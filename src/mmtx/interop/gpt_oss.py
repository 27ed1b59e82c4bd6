"""gpt-oss (OpenAI 2025, arXiv 2508.10925): experts of limited gates, sinks, and a window in every other layer, as
`transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Key, Keys, as_in, harmless, used
from mmtx.interop.expert_decoder import BALANCE_KEYS, ExpertDecoder
from mmtx.interop.family import Config, at
from mmtx.interop.feed_forward import activation
from mmtx.interop.layer_types import FULL, SLIDING, read_types, write_types
from mmtx.interop.links import Link, Weights, same
from mmtx.interop.mxfp4 import decoded
from mmtx.interop.rope import rope_keys
from mmtx.interop.rotary_decoder import DECODER_KEYS, RotaryDecoder

QUANTISED = "mxfp4"
SCALED: Config = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
"""The rotary positions of a file without any."""
UNSCALED: Config = {"rope_type": "default"}
"""What a file has to say where they are not scaled."""


class GptOss(ExpertDecoder):
    name = "gpt_oss"
    body = "GptOssModel"
    kinds = ("GptOssForCausalLM", "GptOssModel")
    choices = ("backbone/mlp=experts_clamped", "backbone/attention=sinks")
    fused: ClassVar = {}
    nullable = (*RotaryDecoder.nullable, "sliding_window")
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    keys: ClassVar[Keys] = {
        **DECODER_KEYS,
        **BALANCE_KEYS,
        **rope_keys(150000.0),
        "rope_parameters": used("both of these, as version 5 of `transformers` writes them", SCALED),
        "vocab_size": used("ids", 201088),
        "hidden_size": used("width", 2880),
        "intermediate_size": used("width of one expert", 2880),
        "num_hidden_layers": used("layers", 36),
        "num_attention_heads": used("heads", 64),
        "num_key_value_heads": used("heads of keys and values; null: as many", 8),
        "head_dim": used("width of a head", 64),
        "hidden_act": harmless("nothing reads it; the activation is that of `swiglu_alpha` and `swiglu_limit`"),
        "max_position_embeddings": used("context", 131072),
        "rms_norm_eps": used("normalisation", 1e-5),
        "eos_token_id": used("ends a text; one id", None),
        "attention_bias": used("biases of attention, all four", True),
        "sliding_window": used("the window, in tokens, itself included", 128),
        "layer_types": used("which layers have it; null: the first and every other one", None),
        "num_local_experts": used("experts", 128),
        "num_experts_per_tok": used("experts that a token takes", 4),
        "swiglu_alpha": used("steepness of the gate's sigmoid", 1.702),
        "swiglu_limit": used("limit of gate and value", 7.0),
        "experts_per_token": as_in("num_experts_per_tok", "its name in OpenAI's code"),
        "initial_context_length": harmless("as `original_max_position_embeddings`, which `rope_scaling` has"),
        "quantization_config": Key(
            "used",
            "weights of experts in MXFP4, which become float32",
            f"`quant_method` {QUANTISED}",
            lambda value, content: value is None or value.get("quant_method") == QUANTISED,
        ),
    }

    def canonical(self, weights: Weights) -> Weights:
        return super().canonical(decoded(weights))

    def complete(self, config: Config, weights: Weights) -> Config:
        config = {key: value for key, value in config.items() if key != "quantization_config"}
        return _with_scaling(super().complete(config, weights))

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        return _with_scaling(super().config(ours, specs))

    def read_layers(self, config: Config) -> dict[str, Any]:
        """Raises UserError for other kinds of layers, or for a window that is not given."""
        count = config["num_hidden_layers"]
        types = config["layer_types"] or [(SLIDING, FULL)[layer % 2] for layer in range(count)]
        return read_types(types, count, config["sliding_window"])

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        window = (
            backbone["window"] or self.keys["sliding_window"].default
        )  # theirs need one, also where no layer has it
        return {"sliding_window": window, "layer_types": write_types(backbone)}

    def read_feed_forward(self, config: Config) -> dict[str, Any]:
        limits = {"alpha": float(config["swiglu_alpha"]), "limit": float(config["swiglu_limit"])}
        return super().read_feed_forward({**config, "hidden_act": "silu"}) | {
            "backbone.mlp.activation": {"_target_": "mmtx.nn.ClampedSwiGLU", **limits},
            "backbone.mlp.bias": True,
            "backbone.mlp.router.bias": True,
        }

    def write_feed_forward(self, ours: Mapping[str, Any]) -> Config:
        limits = {f"swiglu_{key}": at(ours, f"backbone.mlp.activation.{key}") for key in ("alpha", "limit")}
        plain = {**at(ours, "backbone.mlp"), "activation": activation("silu")}
        return super().write_feed_forward({**ours, "backbone": {**at(ours, "backbone"), "mlp": plain}}) | limits

    def feed_forward_links(self, config: Config, ours: str, theirs: str, layer: int) -> list[Link]:
        there = f"{theirs}.mlp.experts"
        return [
            *(same(f"{ours}.mlp.router.{part}", f"{theirs}.mlp.router.{part}") for part in ("weight", "bias")),
            Link(
                (f"{ours}.mlp.up.weight",),
                (f"{there}.gate_up_proj",),
                lambda t: [_apart(t[0]).mT.contiguous()],
                lambda o: [_side_by_side(o[0].mT)],
            ),
            Link(
                (f"{ours}.mlp.up.bias",),
                (f"{there}.gate_up_proj_bias",),
                lambda t: [_apart(t[0])],
                lambda o: [_side_by_side(o[0])],
            ),
            exchanged(f"{ours}.mlp.down.weight", f"{there}.down_proj"),
            same(f"{ours}.mlp.down.bias", f"{there}.down_proj_bias"),
        ]

    def _mixer(self, config: Config, ours: str, theirs: str) -> list[Link]:
        return [*super()._mixer(config, ours, theirs), same(f"{ours}.attention.sinks", f"{theirs}.self_attn.sinks")]


def _with_scaling(config: Config) -> Config:
    return {**config, "rope_scaling": config["rope_scaling"] or UNSCALED}


def exchanged(ours: str, theirs: str) -> Link:
    """Matrices of experts, with rows and columns exchanged."""
    return Link((ours,), (theirs,), lambda t: [t[0].mT.contiguous()], lambda o: [o[0].mT.contiguous()])


def _apart(columns: Tensor) -> Tensor:
    """All gates, then all values, of which theirs stand side by side."""
    return torch.cat([columns[..., ::2], columns[..., 1::2]], dim=-1)


def _side_by_side(columns: Tensor) -> Tensor:
    """Undoes `_apart`."""
    return torch.stack(columns.chunk(2, dim=-1), dim=-1).flatten(-2)
