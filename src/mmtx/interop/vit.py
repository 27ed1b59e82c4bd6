"""ViT (Dosovitskiy et al. 2020), as `transformers` and timm store it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, as_in, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.bert import BODY_SAME
from mmtx.interop.class_labels import check_classes, label_spec, labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.image_preprocessing import PREPROCESSOR, read_preprocessor
from mmtx.interop.links import PARTS, Link, Weights, both, encoder_block, same
from mmtx.interop.pictures import (
    IMAGE,
    POSITIONS,
    patch_link,
    picture_batch,
    picture_side_files,
    picture_size,
    picture_spec,
    picture_values,
    read_positions,
    sides,
    square_patch,
    write_positions,
)
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify

BLOCK = {
    "attention.out": "attention.output.dense",
    "attention_norm": "layernorm_before",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "layernorm_after",
}

ATTENTION_MODULES = (
    *((rf"\.attention\.attention\.{part}\.", f".attention.{part[0]}_proj.") for part in PARTS),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
)


class ViT(Family):
    """ViT with a head for classes, with a pooler, or with neither."""

    name = "vit"
    body = "ViTModel"
    prefix = "vit."
    kinds: ClassVar[Sequence[str]] = ("ViTModel", "ViTForImageClassification")
    keys: ClassVar[Keys] = {
        **CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "hidden_size": used("width", 768),
        "num_hidden_layers": used("layers", 12),
        "num_attention_heads": used("heads", 12),
        "intermediate_size": used("width of the feed-forward half", 3072),
        "hidden_act": used("activation", "gelu"),
        "hidden_dropout_prob": used("dropout", 0.0),
        "attention_probs_dropout_prob": used("dropout of attention", 0.0),
        "initializer_range": used("new weights", 0.02),
        "layer_norm_eps": used("normalisation", 1e-12),
        "image_size": used("height and width in pixels", 224),
        "patch_size": used("square patches", 16),
        "num_channels": used("channels", 3),
        "qkv_bias": used("attention", True),
        "pooler_act": only("tanh", note="the pooler"),
        "pooler_output_size": as_in("hidden_size", "the pooler"),
        "encoder_stride": harmless("the head of ViTForMaskedImageModeling, which is refused"),
        "tie_word_embeddings": harmless("there are no words"),
        "add_pooling_layer": used("written by mmtx; the weights show it"),
    }
    generation = SILENT
    preprocessor = PREPROCESSOR
    same: ClassVar[Mapping[str, str]] = {**BODY_SAME, "modality.image.patch_size": "patch_size"}
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
    modules = (
        (r"^vit\.encoder\.layer\.", "vit.layers."),
        *ATTENTION_MODULES,
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
    added = {"image": (f"{IMAGE}.readouts", POSITIONS)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        config["patch_size"] = square_patch(config, self.name)
        has_head = "classifier.weight" in weights
        if not has_head and config["architectures"] == ["ViTForImageClassification"]:
            raise UserError("this ViTForImageClassification lacks its head: classifier.weight is missing")
        kind = "ViTForImageClassification" if has_head else "ViTModel"
        if has_head:
            rows = len(weights["classifier.weight"])
            check_classes({**config, "architectures": [kind]}, rows)
            config["num_labels"] = rows
        return {**config, "architectures": [kind], "add_pooling_layer": "vit.pooler.dense.weight" in weights}

    def describe(self, config: Config, files: Files) -> Described:
        size, channels, rows_of_head = sides(config), config["num_channels"], config.get("num_labels")
        if config["architectures"] != ["ViTForImageClassification"]:
            rows_of_head = None
        prepared = read_preprocessor(files.side_files.get("preprocessor_config", {}), size, channels)
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"]),
            "backbone.attention.bias": [*PARTS, "out"] if config["qkv_bias"] else ["out"],
            **picture_values(prepared, size, channels),
            "modality.image.summary": True,
            "objective.classify.pooler": config["add_pooling_layer"],
        }
        choices = ["data=image_folder", "modality=[image]", "backbone=vit", "objective=[classify]"]
        choices.append("objective/pool@objective.classify.pool=summary")
        specs = {"image": picture_spec(size, channels), "label": label_spec(config, rows_of_head)}
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        pooler = at(ours, "objective.classify.pooler")
        return self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            **picture_size(specs),
            "qkv_bias": "query" in at(ours, "backbone.attention.bias"),
            "architectures": ["ViTModel" if pooler else "ViTForImageClassification"],
            "add_pooling_layer": pooler,
            **labels_of(specs),
        }

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        return picture_side_files("ViTImageProcessor", ours, specs)

    def links(self, config: Config) -> list[Link]:
        dim, patch, channels = (config[key] for key in ("hidden_size", "patch_size", "num_channels"))
        projection = "vit.embeddings.patch_embeddings.projection"
        links = [
            patch_link(f"{projection}.weight", dim, channels, patch),
            same(f"{IMAGE}.projection.bias", f"{projection}.bias"),
            Link(
                (f"{IMAGE}.readouts", POSITIONS),
                ("vit.embeddings.cls_token", "vit.embeddings.position_embeddings"),
                read_positions,
                write_positions,
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
        return {"pixel_values": torch.zeros(2, config["num_channels"], *sides(config))}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        classify = learner.objective("classify")
        assert isinstance(classify, Classify)
        states = learner.model(picture_batch(learner, inputs["pixel_values"]))
        if config["architectures"] == ["ViTForImageClassification"]:
            return {"logits": classify.head(classify.pooled(states))}
        outputs = {"last_hidden_state": torch.cat([states.summaries("image"), states.tokens("image")], dim=1)}
        if config["add_pooling_layer"]:
            outputs["pooler_output"] = classify.pooled(states)
        return outputs
