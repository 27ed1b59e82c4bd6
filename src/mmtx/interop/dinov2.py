"""DINOv2 (Oquab et al. 2023), with registers (Darcet et al. 2023) or without, as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, used
from mmtx.errors import UserError
from mmtx.interop.bert import BODY_SAME
from mmtx.interop.class_labels import check_classes, label_spec, labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.image_preprocessing import PREPROCESSOR, prepared_size, read_preprocessor
from mmtx.interop.links import PARTS, Link, Several, Weights, both, encoder_block, idle, same, stacked
from mmtx.interop.pictures import (
    IMAGE,
    POSITIONS,
    patch_link,
    picture_batch,
    picture_side_files,
    picture_size,
    picture_spec,
    picture_values,
    sides,
    square_patch,
)
from mmtx.interop.vit import ATTENTION_MODULES
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify

BLOCK = {"attention.out": "attention.output.dense", "attention_norm": "norm1", "mlp_norm": "norm2"}
MLP = {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
GATED = {"mlp.up": "mlp.weights_in", "mlp.down": "mlp.weights_out"}
SCALES = {"attention_add.scale": "layer_scale1.lambda1", "mlp_add.scale": "layer_scale2.lambda1"}
GREATEST_RATIO = 64
"""Of the feed-forward width to the model's, up to which one is looked for."""

DINO_KEYS: Keys = {
    **CLASSES,
    **DECODER_FLAGS,
    **encoder_decoder(False),
    "hidden_size": used("width", 768),
    "num_hidden_layers": used("layers", 12),
    "num_attention_heads": used("heads", 12),
    "mlp_ratio": used("width of the feed-forward half, as a multiple; two thirds of it where it is gated", 4),
    "hidden_act": used("activation, where it is not gated", "gelu"),
    "hidden_dropout_prob": used("dropout", 0.0),
    "attention_probs_dropout_prob": used("dropout of attention", 0.0),
    "drop_path_rate": used("drop path", 0.0),
    "initializer_range": used("new weights", 0.02),
    "layer_norm_eps": used("normalisation", 1e-6),
    "image_size": used("height and width in pixels that the table of positions is for", 224),
    "num_channels": used("channels", 3),
    "qkv_bias": used("attention", True),
    "layerscale_value": used("new scales", 1.0),
    "use_swiglu_ffn": used("SwiGLU", False),
    "tie_word_embeddings": harmless("there are no words"),
    **every(
        "out_features out_indices stage_names apply_layernorm reshape_hidden_states",
        harmless("of a backbone for other heads, which is refused"),
    ),
}


class SelfDistilled(Family):
    """A DINOv2 with a head for classes or without one. A family says whether it has registers."""

    generation = SILENT
    preprocessor = PREPROCESSOR
    same = {
        **BODY_SAME,
        "modality.image.patch_size": "patch_size",
        "backbone.drop_path": "drop_path_rate",
        "backbone.layer_scale": "layerscale_value",
    }
    added = {"image": (f"{IMAGE}.readouts", POSITIONS)}
    modules = (*ATTENTION_MODULES, (r"\.mlp\.weights_out\.", ".mlp.down_proj."))

    def __init_subclass__(cls) -> None:
        cls.prefix = f"{cls.name}."
        cls.renames = (
            (r"^(?=embeddings\.|encoder\.|layernorm\.)", cls.prefix),
            (r"\.attention\.q_proj\.", ".attention.attention.query."),
            (r"\.attention\.k_proj\.", ".attention.attention.key."),
            (r"\.attention\.v_proj\.", ".attention.attention.value."),
            (r"\.attention\.o_proj\.", ".attention.output.dense."),
            (r"\.mlp\.down_proj\.", ".mlp.weights_out."),
        )

    def canonical(self, weights: Weights) -> Weights:
        """Gate and value are two matrices at run time, and one in public files."""
        current = super().canonical(weights)
        for key in [key for key in current if ".mlp.gate_proj." in key]:
            value = current.pop(key.replace("gate_proj", "up_proj"))
            current[key.replace("gate_proj", "weights_in")] = torch.cat([current.pop(key), value])
        return current

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        config["patch_size"] = square_patch(config, self.name)
        rows, columns = sides(config)
        if rows != columns:
            raise UserError(f"image_size={[rows, columns]}: the table of positions of a {self.name} is square")
        has_head = "classifier.weight" in weights
        if not has_head and config["architectures"] == [self.kinds[1]]:
            raise UserError(f"this {self.kinds[1]} lacks its head: classifier.weight is missing")
        kind = self.kinds[1] if has_head else self.kinds[0]
        if has_head:
            rows_of_head = len(weights["classifier.weight"])
            check_classes({**config, "architectures": [kind]}, rows_of_head)
            config["num_labels"] = rows_of_head
        return {**config, "image_size": rows, "architectures": [kind]}

    def describe(self, config: Config, files: Files) -> Described:
        given = files.side_files.get("preprocessor_config", {})
        size, channels = prepared_size(given, sides(config)), config["num_channels"]
        has_head = config["architectures"] == [self.kinds[1]]
        values = self.from_same(config) | {
            **_feed_forward(config),
            **picture_values(read_preprocessor(given, size, channels), size, channels),
            "backbone.attention.bias": [*PARTS, "out"] if config["qkv_bias"] else ["out"],
            "backbone.positions.absolute": self._positions(config, size),
            "modality.image.summary": True,
            "modality.image.num_registers": config.get("num_register_tokens", 0),
        }
        choices = ["data=image_folder", "modality=[image]", "backbone=vit", "objective=[classify]"]
        choices.append(f"objective/pool@objective.classify.pool={'summary_mean' if has_head else 'summary'}")
        label = label_spec(config, config["num_labels"] if has_head else None)
        return Described(choices, values, {"image": picture_spec(size, channels), "label": label})

    def _positions(self, config: Config, size: tuple[int, int]) -> Config:
        """The node of the table, which is resized to pictures of other sizes; with registers, smoothed before."""
        side, patch = sides(config)[0], config["patch_size"]
        if size == (side, side):
            return {"_target_": "mmtx.nn.Learned", "_partial_": True}
        grid = [side // patch] * 2
        smooth = "num_register_tokens" in self.keys
        return {"_target_": "mmtx.nn.Resized", "_partial_": True, "grid": grid, "antialias": smooth}

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        grid = at(ours, "backbone.positions.absolute").get("grid")
        size = picture_size(specs)
        if grid is not None:
            size["image_size"] = grid[0] * at(ours, "modality.image.patch_size")
        config = self.to_same(ours) | {
            **_ratio(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            **size,
            "qkv_bias": "query" in at(ours, "backbone.attention.bias"),
            "architectures": [self.kinds["Mean" in at(ours, "objective.classify.pool._target_")]],
            **labels_of(specs),
        }
        registers = {"num_register_tokens": at(ours, "modality.image.num_registers")}
        return config | (registers if "num_register_tokens" in self.keys else {})

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        return picture_side_files("BitImageProcessor", ours, specs)

    def links(self, config: Config) -> list[Link]:
        dim, patch, channels = (config[key] for key in ("hidden_size", "patch_size", "num_channels"))
        embeddings, has_mask = f"{self.prefix}embeddings", config.get("use_mask_token", True)
        projection = f"{embeddings}.patch_embeddings.projection"
        readouts = ["cls_token", *(["register_tokens"] if "num_register_tokens" in config else [])]
        links = [
            patch_link(f"{projection}.weight", dim, channels, patch),
            same(f"{IMAGE}.projection.bias", f"{projection}.bias"),
            Link(
                (f"{IMAGE}.readouts", POSITIONS),
                tuple(f"{embeddings}.{name}" for name in ("position_embeddings", *readouts)),
                _read_positions,
                _write_positions if len(readouts) > 1 else lambda ours: _write_positions(ours)[:2],
            ),
            *([idle(f"{embeddings}.mask_token", (1, dim))] if has_mask else []),
            *both("model.backbone.final_norm", f"{self.prefix}layernorm"),
        ]
        names, biases = BLOCK | (GATED if config["use_swiglu_ffn"] else MLP), PARTS if config["qkv_bias"] else ()
        for layer in range(config["num_hidden_layers"]):
            block, there = f"model.backbone.blocks.{layer}", f"{self.prefix}encoder.layer.{layer}"
            links += encoder_block(block, there, attention="attention.attention", names=names, biases=biases)
            links += [same(f"{block}.{ours}", f"{there}.{theirs}") for ours, theirs in SCALES.items()]
        return links + (
            both("objectives.classify.head", "classifier") if config["architectures"] == [self.kinds[1]] else []
        )

    def module_links(self, config: Config) -> list[Link]:
        """Gate and value are two maps at run time."""
        return [_apart(link) if ".mlp.weights_in." in link.theirs[0] else link for link in self.links(config)]

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(2, config["num_channels"], *sides(config))}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        classify = learner.objective("classify")
        assert isinstance(classify, Classify)
        states = learner.model(picture_batch(learner, inputs["pixel_values"]))
        if config["architectures"] == [self.kinds[1]]:
            return {"logits": classify.head(classify.pooled(states))}
        return {"last_hidden_state": states.hidden, "pooler_output": classify.pooled(states)}


class DINOv2(SelfDistilled):
    """DINOv2 without registers."""

    name = "dinov2"
    body = "Dinov2Model"
    kinds = ("Dinov2Model", "Dinov2ForImageClassification")
    keys: ClassVar[Keys] = {
        **DINO_KEYS,
        "patch_size": used("square patches", 14),
        "use_mask_token": used("whether the file has the token of masked patches, which is kept", True),
    }


class DINOv2WithRegisters(SelfDistilled):
    """DINOv2 with registers."""

    name = "dinov2_with_registers"
    body = "Dinov2WithRegistersModel"
    kinds = ("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification")
    keys: ClassVar[Keys] = {
        **DINO_KEYS,
        "patch_size": used("square patches", 16),
        "num_register_tokens": used("registers", 4),
    }


def _read_positions(theirs: Several) -> Several:
    """Adds the first position to CLS; registers have none."""
    positions, cls, *registers = theirs
    return [torch.cat([cls[0] + positions[0, :1], *(each[0] for each in registers)]), positions[0, 1:].contiguous()]


def _write_positions(ours: Several) -> Several:
    readouts, table = ours
    positions = torch.cat([torch.zeros_like(table[:1]), table])[None]
    return [positions, readouts[None, :1].contiguous(), readouts[None, 1:].contiguous()]


def _apart(link: Link) -> Link:
    return stacked(link.ours[0], [link.theirs[0].replace("weights_in", name) for name in ("gate_proj", "up_proj")])


def _hidden(dim: int, ratio: int | float, gated: bool) -> int:
    """The width of a feed-forward half; gated, two thirds, rounded up to a multiple of 8."""
    hidden = int(dim * ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden


def _feed_forward(config: Config) -> dict[str, Any]:
    dim, gated = config["hidden_size"], config["use_swiglu_ffn"]
    hidden = _hidden(dim, config["mlp_ratio"], gated)
    return feed_forward("silu" if gated else config["hidden_act"], hidden, dim) | {"backbone.mlp.gated": gated}


def _ratio(mlp: Mapping[str, Any], dim: int) -> Config:
    """The inverse of `_feed_forward`. Raises UserError where no whole multiple has this width."""
    hidden, gated = hidden_width(mlp, dim), mlp["gated"]
    ratio = next((ratio for ratio in range(1, GREATEST_RATIO + 1) if _hidden(dim, ratio, gated) == hidden), None)
    if ratio is None:
        raise UserError(f"a feed-forward half of {hidden} is no whole multiple of the width {dim}")
    own = {} if gated else {"hidden_act": activation_name(mlp["activation"])}
    return {"mlp_ratio": ratio, "use_swiglu_ffn": gated, **own}
