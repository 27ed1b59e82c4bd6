"""DINOv3's vision transformer (Siméoni et al. 2025, arXiv 2508.10104), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.class_labels import label_spec
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.image_preprocessing import DINOV3 as COLOURS
from mmtx.interop.image_preprocessing import FLOATS, PREPROCESSOR, prepared_size, read_preprocessor
from mmtx.interop.links import Link, Several, Weights, both, idle, same, stacked
from mmtx.interop.pictures import (
    IMAGE,
    patch_link,
    picture_batch,
    picture_side_files,
    picture_size,
    picture_spec,
    picture_values,
    sides,
    square_patch,
)
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify

ROTARY = "backbone.positions.rotary"
MAPS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
NORMS = {"attention_norm": "norm1", "mlp_norm": "norm2"}
SCALES = {"attention_add.scale": "layer_scale1.lambda1", "mlp_add.scale": "layer_scale2.lambda1"}
IN_TRAINING = "in training, pictures are stretched by it at random; mmtx trains on positions as they are"


class DINOv3(Family):
    """A DINOv3 without a head."""

    name = "dinov3_vit"
    body = "DINOv3ViTModel"
    kinds = (body,)
    keys: ClassVar[Keys] = {
        **NO_CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "hidden_size": used("width", 384),
        "num_hidden_layers": used("layers", 12),
        "num_attention_heads": used("heads", 6),
        "intermediate_size": used("width of the feed-forward half", 1536),
        "hidden_act": used("activation, of the gate where there is one", "gelu"),
        "use_gated_mlp": used("a gated feed-forward half", False),
        "mlp_bias": used("biases of the feed-forward half", True),
        **{f"{name}_bias": used(f"bias of the map of attention: {name}", name != "key") for name in MAPS},
        "proj_bias": used("bias of the output of attention", True),
        "attention_dropout": used("dropout of attention", 0.0),
        "drop_path_rate": only(0, note="drop path, alike in all layers"),
        "initializer_range": used("new weights", 0.02),
        "layer_norm_eps": used("normalisation", 1e-5),
        "layerscale_value": used("new scales", 1.0),
        "rope_theta": used("base of the rotary positions", 100.0),
        "image_size": used("height and width in pixels, unless pictures are prepared otherwise", 224),
        "patch_size": used("square patches", 16),
        "num_channels": used("channels", 3),
        "num_register_tokens": used("registers", 0),
        **every("pos_embed_shift pos_embed_jitter pos_embed_rescale", harmless(IN_TRAINING)),
        "tie_word_embeddings": harmless("there are no words"),
        **every(
            "out_features out_indices _out_features _out_indices stage_names apply_layernorm reshape_hidden_states "
            "return_class_token",
            harmless("of a backbone for other heads, which is refused"),
        ),
    }
    generation = SILENT
    preprocessor = PREPROCESSOR
    same: ClassVar[Mapping[str, str]] = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_attention_heads",
        "backbone.norm.eps": "layer_norm_eps",
        "backbone.attention.dropout": "attention_dropout",
        "backbone.layer_scale": "layerscale_value",
        "backbone.init_std": "initializer_range",
        "backbone.mlp.gated": "use_gated_mlp",
        "backbone.mlp.bias": "mlp_bias",
        "modality.image.patch_size": "patch_size",
        "modality.image.num_registers": "num_register_tokens",
    }
    renames = ((r"^model\.(?=layer\.)", ""),)
    added: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": (f"{IMAGE}.readouts", f"{IMAGE}.projection.bias")}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        width = config["hidden_size"] // config["num_attention_heads"]
        if width % 4:
            raise UserError(f"heads of a {self.name} turn by row and by column, in pairs; theirs are {width} wide")
        return {**config, "patch_size": square_patch(config, self.name)}

    def describe(self, config: Config, files: Files) -> Described:
        given = files.side_files.get("preprocessor_config") or _prepared(config)
        size, channels, patch = prepared_size(given, sides(config)), config["num_channels"], config["patch_size"]
        biases = [name for name in MAPS if config[f"{name}_bias"]] + (["out"] if config["proj_bias"] else [])
        prepared = read_preprocessor(given, size, channels)
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"]),
            **picture_values(prepared, size, channels),
            "backbone.attention.bias": biases,
            f"{ROTARY}.base": float(config["rope_theta"]),
            f"{ROTARY}.axes": ["row", "column"],
            f"{ROTARY}.wavelengths": [float(side // patch) for side in size],
            "modality.image.summary": True,
            "modality.image.centred": True,
        }
        choices = ["data=image_folder", "modality=[image]", "backbone=vit", "backbone/positions=rotary"]
        choices += ["objective=[classify]", "objective/pool@objective.classify.pool=summary"]
        floats = prepared.fit.get("floats", False)
        specs = {"image": picture_spec(size, channels, floats), "label": label_spec(config, None)}
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        biases, half = at(ours, "backbone.attention.bias"), at(ours, "backbone.mlp")
        return {
            **self.to_same(ours),
            **picture_size(specs),
            **{f"{name}_bias": name in biases for name in MAPS},
            "proj_bias": "out" in biases,
            "rope_theta": at(ours, f"{ROTARY}.base"),
            "hidden_act": activation_name(half["activation"]),
            "intermediate_size": hidden_width(half, at(ours, "backbone.dim")),
            "architectures": [*self.kinds],
        }

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        floats = (ours.get("data", {}).get("fit") or {}).get("floats", False)
        return picture_side_files(FLOATS if floats else "ViTImageProcessor", ours, specs)

    def links(self, config: Config) -> list[Link]:
        dim, patch, channels = (config[key] for key in ("hidden_size", "patch_size", "num_channels"))
        links = [
            patch_link("embeddings.patch_embeddings.weight", dim, channels, patch),
            same(f"{IMAGE}.projection.bias", "embeddings.patch_embeddings.bias"),
            Link(
                (f"{IMAGE}.readouts",),
                ("embeddings.cls_token", "embeddings.register_tokens"),
                lambda t: [torch.cat([each[0] for each in t])],
                _write_readouts,
            ),
            idle("embeddings.mask_token", (1, 1, dim)),
            *both("model.backbone.final_norm", "norm"),
        ]
        for layer in range(config["num_hidden_layers"]):
            links += _block(config, f"model.backbone.blocks.{layer}", f"layer.{layer}")
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(2, config["num_channels"], *sides(config))}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        classify = learner.objective("classify")
        assert isinstance(classify, Classify)
        states = learner.model(picture_batch(learner, inputs["pixel_values"]))
        return {"last_hidden_state": states.hidden, "pooler_output": classify.pooled(states)}


def _prepared(config: Config) -> Config:
    """The preprocessing of a folder that does not describe it."""
    grey = {} if config["num_channels"] == len(COLOURS["image_mean"]) else {"image_mean": 0.5, "image_std": 0.5}
    return {"image_processor_type": FLOATS, "size": [*sides(config)], **grey}


def _write_readouts(ours: Several) -> Several:
    return [ours[0][None, :1].contiguous(), ours[0][None, 1:].contiguous()]


def _block(config: Config, ours: str, theirs: str) -> list[Link]:
    maps = {name: f"{theirs}.attention.{there}" for name, there in MAPS.items()}
    links = [stacked(f"{ours}.attention.qkv.weight", [f"{there}.weight" for there in maps.values()])]
    links += [
        same(f"{ours}.attention.biases.{name}", f"{there}.bias")
        for name, there in maps.items()
        if config[f"{name}_bias"]
    ]
    links += _linear(f"{ours}.attention.out", [f"{theirs}.attention.o_proj"], config["proj_bias"])
    up = ["gate_proj", "up_proj"] if config["use_gated_mlp"] else ["up_proj"]
    links += _linear(f"{ours}.mlp.up", [f"{theirs}.mlp.{name}" for name in up], config["mlp_bias"])
    links += _linear(f"{ours}.mlp.down", [f"{theirs}.mlp.down_proj"], config["mlp_bias"])
    links += [same(f"{ours}.{here}", f"{theirs}.{there}") for here, there in SCALES.items()]
    return links + [link for here, there in NORMS.items() for link in both(f"{ours}.{here}", f"{theirs}.{there}")]


def _linear(ours: str, theirs: list[str], bias: bool) -> list[Link]:
    parts = ("weight", "bias") if bias else ("weight",)
    return [stacked(f"{ours}.{part}", [f"{name}.{part}" for name in theirs]) for part in parts]
