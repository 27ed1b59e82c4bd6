"""ViT (Dosovitskiy et al. 2020), as `transformers` and timm store it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.errors import UserError
from mmtx.interop.bert import label_spec, labels_of
from mmtx.interop.family import Config, Described, Family, Files, activation_name, at, feed_forward, hidden_width
from mmtx.interop.links import PARTS, Link, Several, Weights, both, encoder_block, reshaped, same
from mmtx.learner import Learner
from mmtx.modalities.image import Image
from mmtx.objectives.classify import Classify

BLOCK = {
    "attention.out": "attention.output.dense",
    "attention_norm": "layernorm_before",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "layernorm_after",
}
TIMM_HEAD_DIM = 64
"""Width of a head in timm's own sizes; its state does not say."""


class ViT(Family):
    """With a head for classes, with a pooler, or without."""

    name = "vit"
    body = "ViTModel"
    prefix = "vit."
    defaults = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": True,
        "pooler_act": "tanh",
    }
    fixed = {"pooler_act": "tanh"}
    same = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_attention_heads",
        "backbone.norm.eps": "layer_norm_eps",
        "backbone.dropout": "hidden_dropout_prob",
        "backbone.attention.dropout": "attention_probs_dropout_prob",
        "backbone.init_std": "initializer_range",
        "modality.image.patch_size": "patch_size",
    }
    renames = (
        (r"^(?=embeddings\.|encoder\.|layernorm\.|pooler\.|layers\.)", "vit."),
        (r"^vit\.layers\.", "vit.encoder.layer."),
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )

    added = {"image": ("model.tokenizers.image.readouts", "model.position_embeddings.image.table.weight")}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        patch = config["patch_size"]
        if isinstance(patch, list):
            if len(set(patch)) > 1:
                raise UserError(f"this vit has patches of {patch}; mmtx has square ones")
            config["patch_size"] = patch[0]
        has_head = "classifier.weight" in weights
        if has_head:
            config["num_labels"] = len(weights["classifier.weight"])
        kind = "ViTForImageClassification" if has_head else "ViTModel"
        return {**config, "architectures": [kind], "add_pooling_layer": "vit.pooler.dense.weight" in weights}

    def describe(self, config: Config, files: Files) -> Described:
        rows, columns = _sides(config)
        prepared, channels = files.said.get("preprocessor_config", {}), config["num_channels"]
        if prepared.get("do_normalize") is False:
            prepared = {"image_mean": [0.0] * channels, "image_std": [1.0] * channels}
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"]),
            "backbone.attention.bias": [*PARTS, "out"] if config["qkv_bias"] else ["out"],
            "modality.image.summary": True,
            "modality.image.mean": prepared.get("image_mean", [0.5] * channels),
            "modality.image.std": prepared.get("image_std", [0.5] * channels),
            "objective.classify.pooler": config["add_pooling_layer"],
            "data.size": rows,
            "data.channels": channels,
        }
        choices = ["data=image_folder", "modality=[image]", "backbone=vit", "objective=[classify]"]
        choices.append("objective/pool@objective.classify.pool=summary")
        pixels = Field((channels, rows, columns), torch.uint8)
        return Described(choices, values, {"image": Spec({"pixels": pixels}), "label": label_spec(config)})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        channels, rows, columns = specs["image"].fields["pixels"].shape
        pooler = at(ours, "objective.classify.pooler")
        return self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "image_size": rows if rows == columns else [rows, columns],
            "num_channels": channels,
            "qkv_bias": "query" in at(ours, "backbone.attention.bias"),
            "architectures": ["ViTModel" if pooler else "ViTForImageClassification"],
            "add_pooling_layer": pooler,
            **labels_of(specs),
        }

    def beside(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        """How pixels are prepared."""
        channels, rows, columns = (size or 0 for size in specs["image"].fields["pixels"].shape)
        given = {key: at(ours, f"modality.image.{key}") for key in ("mean", "std")}
        each = {key: value if isinstance(value, list) else [value] * channels for key, value in given.items()}
        prepared = {"image_processor_type": "ViTImageProcessor", "size": {"height": rows, "width": columns}}
        return {"preprocessor_config": {**prepared, "image_mean": each["mean"], "image_std": each["std"]}}

    def links(self, config: Config) -> list[Link]:
        image, dim, patch, channels = (
            "model.tokenizers.image",
            config["hidden_size"],
            config["patch_size"],
            config["num_channels"],
        )
        projection = "vit.embeddings.patch_embeddings.projection"
        shape = (dim, channels, patch, patch)
        links = [
            reshaped(f"{image}.projection.weight", f"{projection}.weight", (dim, channels * patch**2), shape),
            same(f"{image}.projection.bias", f"{projection}.bias"),
            Link(
                (f"{image}.readouts", "model.position_embeddings.image.table.weight"),
                ("vit.embeddings.cls_token", "vit.embeddings.position_embeddings"),
                _read_positions,
                _write_positions,
            ),
            *both("model.backbone.final_norm", "vit.layernorm"),
        ]
        biases = PARTS if config["qkv_bias"] else ()
        for layer in range(config["num_hidden_layers"]):
            block, there = f"model.backbone.blocks.{layer}", f"vit.encoder.layer.{layer}"
            links += encoder_block(block, there, attention="attention.attention", names=BLOCK, biases=biases)
        if config["add_pooling_layer"]:
            links += both("objectives.classify.pooler.0", "vit.pooler.dense")
        if config["architectures"] == ["ViTForImageClassification"]:
            links += both("objectives.classify.head", "classifier")
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(2, config["num_channels"], *_sides(config))}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        tokenizer, classify = learner.model.tokenizer("image"), learner.objective("classify")
        assert isinstance(tokenizer, Image)
        assert isinstance(classify, Classify)
        pixels = (inputs["pixel_values"] * tokenizer.std + tokenizer.mean) * tokenizer.scale  # as files have them
        present = torch.ones(pixels.shape[0], dtype=torch.long, device=pixels.device)
        encoded = learner.model(Batch({"image": {"pixels": pixels}}, {"image": present}, {"image": True}))
        if config["architectures"] == ["ViTForImageClassification"]:
            return {"logits": classify.head(classify.pooled(encoded))}
        outputs = {"last_hidden_state": torch.cat([encoded.summaries("image"), encoded.tokens("image")], dim=1)}
        if config["add_pooling_layer"]:
            outputs["pooler_output"] = classify.pooled(encoded)
        return outputs


def _read_positions(theirs: Several) -> Several:
    """CLS stands at the first position; here a read-out has none of its own."""
    cls, positions = theirs
    return [cls[0] + positions[0, :1], positions[0, 1:].contiguous()]


def _write_positions(ours: Several) -> Several:
    readout, table = ours
    return [readout[None].contiguous(), torch.cat([torch.zeros_like(table[:1]), table])[None]]


def _sides(config: Config) -> tuple[int, int]:
    size = config["image_size"]
    return (size[0], size[1]) if isinstance(size, list) else (size, size)


TIMM_RENAMES = (
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^norm\.", "vit.layernorm."),
    (r"^head\.", "classifier."),
    (r"^blocks\.", "vit.encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
)


def from_timm(weights: Weights, more: Config) -> tuple[Config, Weights]:
    """A state of timm's as config and weights of this family; a square picture, and heads of 64 unless `more` says.

    Raises:
        UserError: it is not a ViT with a CLS token and one table of positions.
    """
    patches, positions = weights.get("patch_embed.proj.weight"), weights.get("pos_embed")
    if patches is None or positions is None or "cls_token" not in weights or patches.ndim != 4 or positions.ndim != 3:
        raise UserError("this state of timm is not a ViT with CLS and positions in one table")
    dim, channels, patch, _ = patches.shape
    depth = 1 + max((int(key.split(".")[1]) for key in weights if re.match(r"blocks\.\d+\.", key)), default=-1)
    hidden = weights.get("blocks.0.mlp.fc1.weight", torch.empty(0))
    config = {
        "model_type": "vit",
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": max(1, dim // TIMM_HEAD_DIM),
        "intermediate_size": len(hidden) or 4 * dim,
        "layer_norm_eps": 1e-6,
        "image_size": math.isqrt(max(0, positions.shape[1] - 1)) * patch,
        "patch_size": patch,
        "num_channels": channels,
        "qkv_bias": "blocks.0.attn.qkv.bias" in weights,
    }
    renamed: Weights = {}
    for key, value in weights.items():
        for pattern, replacement in TIMM_RENAMES:
            key = re.sub(pattern, replacement, key)
        fused = re.fullmatch(r"(.*)\.attn\.qkv\.(weight|bias)", key)
        parts = value.chunk(3) if fused else ()
        names = [f"{fused[1]}.attention.attention.{part}.{fused[2]}" for part in PARTS] if fused else [key]
        renamed |= zip(names, parts or (value,), strict=True)
    return {**config, **more}, renamed
