"""SigLIP (Zhai et al. 2023) and SigLIP 2 of fixed resolution (Tschannen et al. 2025), as `transformers` stores them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec, Vocabulary
from mmtx.data.files.supported_keys import Keys, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import SILENT
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation
from mmtx.interop.image_preprocessing import PREPROCESSOR, read_preprocessor
from mmtx.interop.links import Link, Weights, both, reshaped, same
from mmtx.interop.pictures import (
    IMAGE,
    POSITIONS,
    patch_link,
    picture_batch,
    picture_side_files,
    picture_size,
    picture_spec,
    picture_values,
    square_patch,
)
from mmtx.interop.two_towers import (
    BOTH_KEYS,
    PICTURE_KEYS,
    TOWER_KEYS,
    config_of_tower,
    square_side,
    tower_config,
    tower_links,
    tower_values,
)
from mmtx.learner import Learner
from mmtx.objectives.contrastive import Contrastive

POOL, HEAD = "objectives.contrastive.first_pool", "vision_model.head"
OWN: Keys = {
    "hidden_act": used("activation", "gelu_pytorch_tanh"),
    "layer_norm_eps": used("normalisation", 1e-6),
}
TEXT: Keys = {
    **TOWER_KEYS,
    **OWN,
    "vocab_size": used("ids", 32000),
    "max_position_embeddings": used("places, to which every text is filled", 64),
    "pad_token_id": used("fills a text, where the tokenizer has no other", 1),
    "projection_size": used("size of the vectors; null: the width"),
}
VISION: Keys = {**PICTURE_KEYS, **OWN, "vision_use_head": only(True, note="pictures without a vector")}


class SigLIP(Family):
    """Both towers of SigLIP, with the probe that pools pictures, the head of texts, scale and bias."""

    name = "siglip"
    kinds = ("SiglipModel",)
    keys: ClassVar[Keys] = {
        **BOTH_KEYS,
        "text_config": used("the tower of texts"),
        "vision_config": used("the tower of pictures"),
        "tie_word_embeddings": harmless("there is no head over words"),
    }
    parts: ClassVar[Mapping[str, Keys]] = {"text_config": TEXT, "vision_config": VISION}
    generation = SILENT
    preprocessor = PREPROCESSOR
    vocabularies = ("data/vocabulary",)
    same: ClassVar[Mapping[str, str]] = {}
    unused = r"position_ids$"
    text_inputs = ("input_ids",)
    added: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image": (POSITIONS,),
        "text": ("model.position_embeddings.text.table.weight",),
    }
    modality = "image"
    """Its choice of pictures."""

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        text, vision = (tower_config(config, part, keys) for part, keys in self.parts.items())
        vision = self.settled_pictures(vision)
        text["projection_size"] = text.get("projection_size") or text["hidden_size"]
        if text["projection_size"] != vision["hidden_size"]:
            problem = f"text_config.projection_size={text['projection_size']}"
            raise UserError(f"{problem} is not the width of the pictures, {vision['hidden_size']}")
        return {**config, "text_config": text, "vision_config": vision}

    def settled_pictures(self, vision: Config) -> Config:
        """The tower of pictures with sides as numbers. Raises UserError where pictures or patches are not square."""
        return {**vision, "patch_size": square_patch(vision, self.name), "image_size": square_side(vision)}

    def read_pictures(self, vision: Config, files: Files) -> tuple[dict[str, Any], Spec]:
        """How pictures are read, as `{path: value}`; and what data would declare of them."""
        size, channels = (vision["image_size"],) * 2, vision["num_channels"]
        usual = {"image_processor_type": "SiglipImageProcessor", "size": vision["image_size"]}
        given = files.side_files.get("preprocessor_config") or usual
        values = {
            **picture_values(read_preprocessor(given, size, channels), size, channels),
            "modality.image.patch_size": vision["patch_size"],
            "modality.image.cut": vision["image_size"] % vision["patch_size"] > 0,
        }
        return values, picture_spec(size, channels)

    def write_pictures(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        """The inverse of `read_pictures`, as far as it is in the config of the tower."""
        return {**picture_size(specs), "patch_size": at(ours, "modality.image.patch_size")}

    def describe(self, config: Config, files: Files) -> Described:
        text, vision = config["text_config"], config["vision_config"]
        pictures, picture = self.read_pictures(vision, files)
        pad = files.mark("pad_token", "")
        values = {
            **tower_values(text, "backbone"),
            **tower_values(vision, "encoder"),
            **pictures,
            **{f"objective.contrastive.first_pool.{key}": value for key, value in _probe(vision).items()},
            "encode": ["image"],
            "towers": True,
            "modality.text.causal": False,
            "modality.text.context": text["max_position_embeddings"],
            "modality.text.fill": text["pad_token_id"] if pad is None else pad,
            "objective.contrastive.second": "text",
            "objective.contrastive.size": text["projection_size"],
            "objective.contrastive.projected": ["text"],
            "objective.contrastive.projection_bias": True,
        }
        names = f"modality=[{self.modality},text]"
        choices = ["data=manifest", names, "backbone=transformer", "objective=[contrastive]"]
        choices += [f"objective/pool@objective.contrastive.{key}" for key in ("first_pool=probe", "second_pool=last")]
        choices.append("objective/pair_loss@objective.contrastive.loss=sigmoid")
        end = files.mark("eos_token", "</s>")
        vocabulary = files.vocabulary(size=text["vocab_size"], begin=None, end=end)
        ids = Field((None,), torch.long, text["vocab_size"], text["max_position_embeddings"])
        specs = {"image": picture, "text": Spec({"ids": ids}, vocabulary=vocabulary)}
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        ids = specs["text"].fields["ids"]
        text = {
            **config_of_tower(ours, "backbone"),
            "max_position_embeddings": at(ours, "modality.text.context") or ids.max_length,
            "vocab_size": ids.num_classes,
            "pad_token_id": at(ours, "modality.text.fill"),
            "projection_size": at(ours, "objective.contrastive.size"),
        }
        vision = config_of_tower(ours, "encoder") | self.write_pictures(ours, specs)
        return self.complete({"text_config": text, "vision_config": vision, "architectures": [*self.kinds]}, {})

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        return picture_side_files("SiglipImageProcessor", ours, specs)

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        return {"eos_token": vocabulary.end, "pad_token": config["text_config"]["pad_token_id"]}

    def links(self, config: Config) -> list[Link]:
        text, vision = config["text_config"], config["vision_config"]
        tables = {
            "model.tokenizers.text.embedding": "text_model.embeddings.token_embedding",
            "model.position_embeddings.text.table": "text_model.embeddings.position_embedding",
        }
        return [
            *self.picture_links(vision),
            *(same(f"{ours}.weight", f"{theirs}.weight") for ours, theirs in tables.items()),
            *both("model.encoder.final_norm", "vision_model.post_layernorm"),
            *tower_links("model.encoder", "vision_model", vision["num_hidden_layers"]),
            *both("model.backbone.final_norm", "text_model.final_layer_norm"),
            *tower_links("model.backbone", "text_model", text["num_hidden_layers"]),
            *_probe_links(vision["hidden_size"]),
            *both("objectives.contrastive.projections.text", "text_model.head"),
            same("objectives.contrastive.log_scale", "logit_scale"),
            same("objectives.contrastive.loss.bias", "logit_bias"),
        ]

    def picture_links(self, vision: Config) -> list[Link]:
        """Of patches and their positions."""
        dim, patch, channels = (vision[key] for key in ("hidden_size", "patch_size", "num_channels"))
        embeddings = "vision_model.embeddings"
        return [
            patch_link(f"{embeddings}.patch_embedding.weight", dim, channels, patch),
            same(f"{IMAGE}.projection.bias", f"{embeddings}.patch_embedding.bias"),
            same(POSITIONS, f"{embeddings}.position_embedding.weight"),
        ]

    def example_pictures(self, vision: Config) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(2, vision["num_channels"], *(vision["image_size"],) * 2)}

    def batch_of_pictures(self, learner: Learner, **inputs: Any) -> Batch:
        return picture_batch(learner, inputs["pixel_values"])

    def example(self, config: Config) -> dict[str, Tensor]:
        text, vision = config["text_config"], config["vision_config"]
        ids = torch.zeros(2, text["max_position_embeddings"], dtype=torch.long)
        return {"input_ids": ids, **self.example_pictures(vision)}

    def batch(self, learner: Learner, config: Config, **inputs: Any) -> Batch:
        """Pictures, and texts, which are filled to all places.

        Raises:
            UserError: a text is padded, and the padding masked.
        """
        mask, ids = inputs.get("attention_mask"), inputs["input_ids"]
        if mask is not None and not mask.all():
            raise UserError("attention_mask: texts of a siglip are filled to all places, and all are attended to")
        lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
        pictures = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
        return self.batch_of_pictures(learner, **pictures).with_name("text", {"ids": ids}, lengths, True)

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        contrastive = learner.objective("contrastive")
        assert isinstance(contrastive, Contrastive)
        batch = self.batch(learner, config, **inputs)
        image, text = (contrastive.vectors(learner.model, batch, name) for name in ("image", "text"))
        bias = contrastive.loss.bias
        assert isinstance(bias, Tensor)
        logits = image @ text.T * contrastive.log_scale.exp() + bias
        return {"logits_per_image": logits, "logits_per_text": logits.T, "text_embeds": text, "image_embeds": image}


def _probe(vision: Config) -> Config:
    """Values of the pool of pictures."""
    return {
        "dim": vision["hidden_size"],
        "num_heads": vision["num_attention_heads"],
        "activation": activation(vision["hidden_act"]),
        "expansion": vision["intermediate_size"] / vision["hidden_size"],
        "eps": vision["layer_norm_eps"],
    }


def _probe_links(dim: int) -> list[Link]:
    names = {"out": "attention.out_proj", "norm": "layernorm", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
    return [
        reshaped(f"{POOL}.probe", f"{HEAD}.probe", (1, dim), (1, 1, dim)),
        same(f"{POOL}.qkv.weight", f"{HEAD}.attention.in_proj_weight"),
        same(f"{POOL}.qkv.bias", f"{HEAD}.attention.in_proj_bias"),
        *(link for ours, theirs in names.items() for link in both(f"{POOL}.{ours}", f"{HEAD}.{theirs}")),
    ]
