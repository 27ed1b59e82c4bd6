"""CLIP (Radford et al. 2021), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec, Vocabulary
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import SILENT
from mmtx.interop.family import Config, Described, Family, Files, at, one_id, text_batch
from mmtx.interop.image_preprocessing import CLIP as CLIP_COLOURS
from mmtx.interop.image_preprocessing import PREPROCESSOR, read_preprocessor
from mmtx.interop.links import Link, Several, Weights, both, reshaped, same
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

HIGHEST = 2
"""The ``eos_token_id`` of older files, which is wrong: their texts are read at the highest id."""

TEXT: Keys = {
    **TOWER_KEYS,
    "hidden_size": used("width", 512),
    "num_attention_heads": used("heads", 8),
    "intermediate_size": used("width of the feed-forward half", 2048),
    "vocab_size": used("ids", 49408),
    "max_position_embeddings": used("context", 77),
    "hidden_act": used("activation", "quick_gelu"),
    "layer_norm_eps": used("normalisation", 1e-5),
    "eos_token_id": used("where a text is read; 2: at its highest id, as older versions do", 49407),
    "projection_dim": harmless("of a tower alone"),
    "dropout": only(0, note="dropout"),
}
VISION: Keys = {
    **PICTURE_KEYS,
    "patch_size": used("square patches", 32),
    "hidden_act": used("activation", "quick_gelu"),
    "layer_norm_eps": used("normalisation", 1e-5),
    "projection_dim": harmless("of a tower alone"),
    "dropout": only(0, note="dropout"),
}


class CLIP(Family):
    """Both towers of CLIP, with their projections and the temperature."""

    name = "clip"
    kinds = ("CLIPModel",)
    keys: ClassVar[Keys] = {
        **BOTH_KEYS,
        "text_config": used("the tower of texts"),
        "vision_config": used("the tower of pictures"),
        **every("text_config_dict vision_config_dict", used("of older versions, which goes before")),
        "projection_dim": used("size of the vectors", 512),
        "logit_scale_init_value": harmless("new weights"),
        "tie_word_embeddings": harmless("there is no head over words"),
    }
    parts: ClassVar[Mapping[str, Keys]] = {"text_config": TEXT, "vision_config": VISION}
    generation = SILENT
    preprocessor = PREPROCESSOR
    vocabularies = ("data/vocabulary",)
    same = {"objective.contrastive.size": "projection_dim"}
    unused = r"position_ids$"
    added = {
        "image": (f"{IMAGE}.readouts", POSITIONS),
        "text": ("model.position_embeddings.text.table.weight",),
    }

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        text, vision = (tower_config(config, part, keys) for part, keys in self.parts.items())
        vision |= {"patch_size": square_patch(vision, self.name), "image_size": square_side(vision)}
        if one_id(text, "eos_token_id") is None:
            raise UserError("text_config.eos_token_id is missing, at which texts are read")
        beside = ("text_config_dict", "vision_config_dict")
        rest = {key: value for key, value in config.items() if key not in beside}
        return {**rest, "text_config": text, "vision_config": vision}

    def describe(self, config: Config, files: Files) -> Described:
        text, vision = config["text_config"], config["vision_config"]
        size, channels = (vision["image_size"],) * 2, vision["num_channels"]
        given = files.side_files.get("preprocessor_config") or _prepared(size, channels)
        values = self.from_same(config) | {
            **tower_values(text, "backbone"),
            **tower_values(vision, "encoder"),
            **picture_values(read_preprocessor(given, size, channels), size, channels),
            "encoder.input_norm": True,
            "encode": ["image"],
            "towers": True,
            "modality.image.summary": True,
            "modality.image.patch_size": vision["patch_size"],
            "modality.text.context": text["max_position_embeddings"],
            "objective.contrastive.second": "text",
        }
        pools = (("first", "summary"), ("second", "last"))
        choices = ["data=manifest", "modality=[image,text]", "backbone=transformer", "objective=[contrastive]"]
        choices += [f"objective/pool@objective.contrastive.{which}_pool={pool}" for which, pool in pools]
        return Described(choices, values, {"image": picture_spec(size, channels), "text": _text_spec(text, files)})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        ids, vocabulary = specs["text"].fields["ids"], specs["text"].vocabulary
        end = vocabulary.end if vocabulary is not None else None
        text = {
            **config_of_tower(ours, "backbone"),
            "max_position_embeddings": at(ours, "modality.text.context") or ids.max_length,
            "vocab_size": ids.num_classes,
            **({} if end is None else {"eos_token_id": end}),
        }
        vision = config_of_tower(ours, "encoder") | picture_size(specs)
        vision["patch_size"] = at(ours, "modality.image.patch_size")
        own = self.to_same(ours) | {"text_config": text, "vision_config": vision, "architectures": [*self.kinds]}
        return self.complete(own, {})

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        return picture_side_files("CLIPImageProcessor", ours, specs)

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        return {"bos_token": vocabulary.begin, "eos_token": vocabulary.end, "pad_token": vocabulary.end}

    def links(self, config: Config) -> list[Link]:
        text, vision = config["text_config"], config["vision_config"]
        dim, patch, channels = (vision[key] for key in ("hidden_size", "patch_size", "num_channels"))
        embeddings, contrastive = "vision_model.embeddings", "objectives.contrastive"
        tables = {"model.tokenizers.text.embedding": "token_embedding"}
        tables["model.position_embeddings.text.table"] = "position_embedding"
        return [
            patch_link(f"{embeddings}.patch_embedding.weight", dim, channels, patch),
            Link(
                (f"{IMAGE}.readouts", POSITIONS, f"{IMAGE}.projection.bias"),
                (f"{embeddings}.class_embedding", f"{embeddings}.position_embedding.weight"),
                _read_positions,
                _write_positions,
            ),
            *both("model.encoder.input_norm", "vision_model.pre_layrnorm"),
            *both("model.encoder.final_norm", "vision_model.post_layernorm"),
            *tower_links("model.encoder", "vision_model", vision["num_hidden_layers"]),
            *(same(f"{ours}.weight", f"text_model.embeddings.{theirs}.weight") for ours, theirs in tables.items()),
            *both("model.backbone.final_norm", "text_model.final_layer_norm"),
            *tower_links("model.backbone", "text_model", text["num_hidden_layers"]),
            same(f"{contrastive}.projections.image.weight", "visual_projection.weight"),
            same(f"{contrastive}.projections.text.weight", "text_projection.weight"),
            reshaped(f"{contrastive}.log_scale", "logit_scale", (1,), ()),
        ]

    def example(self, config: Config) -> dict[str, Tensor]:
        text, vision = config["text_config"], config["vision_config"]
        ids = torch.zeros(2, min(8, text["max_position_embeddings"]), dtype=torch.long)
        return {
            "input_ids": ids,
            "pixel_values": torch.zeros(2, vision["num_channels"], *(vision["image_size"],) * 2),
        }

    def batch(self, learner: Learner, config: Config, **inputs: Any) -> Batch:
        """Pictures, and texts that end where they are read: nothing after it is attended to.

        Raises:
            UserError: a text begins with padding.
        """
        pictures, ids, mask = (inputs.get(key) for key in ("pixel_values", "input_ids", "attention_mask"))
        assert isinstance(pictures, Tensor)
        assert isinstance(ids, Tensor)
        text_batch("text", ids, mask)
        end = one_id(config["text_config"], "eos_token_id")
        assert end is not None
        found = ids.argmax(1) if end == HIGHEST else ids.eq(end).int().argmax(1)
        return picture_batch(learner, pictures).with_name("text", {"ids": ids}, found + 1)

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        contrastive = learner.objective("contrastive")
        assert isinstance(contrastive, Contrastive)
        batch = self.batch(learner, config, **inputs)
        image, text = (contrastive.vectors(learner.model, batch, name) for name in ("image", "text"))
        logits = image @ text.T * contrastive.log_scale.exp()
        return {"logits_per_image": logits, "logits_per_text": logits.T, "text_embeds": text, "image_embeds": image}


def _prepared(size: tuple[int, int], channels: int) -> Config:
    """The preprocessing of a folder that does not describe it."""
    rows, columns = size
    grey = {} if channels == len(CLIP_COLOURS["image_mean"]) else {"image_mean": 0.5, "image_std": 0.5}
    crop = {"height": rows, "width": columns}
    return {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": rows}, "crop_size": crop, **grey}


def _text_spec(config: Config, files: Files) -> Spec:
    """Texts that end at the mark where they are read; of older files it is that of the tokenizer, or the highest id."""
    size, end = config["vocab_size"], one_id(config, "eos_token_id")
    if end == HIGHEST:
        end = files.mark("eos_token", "<|endoftext|>") if files.tokenizer is not None else size - 1
    end = end if end is not None and end < size else None
    vocabulary = files.vocabulary(size=size, begin=files.mark("bos_token", "<|startoftext|>"), end=end)
    ids = Field((None,), torch.long, size, config["max_position_embeddings"])
    return Spec({"ids": ids}, vocabulary=vocabulary)


def _read_positions(theirs: Several) -> Several:
    """Adds the first position to CLS, which has none in mmtx; patches have no bias there."""
    cls, positions = theirs
    return [(cls + positions[0])[None], positions[1:].contiguous(), torch.zeros_like(cls)]


def _write_positions(ours: Several) -> Several:
    """Adds the bias of patches to their positions."""
    readout, table, bias = ours
    return [readout[0].contiguous(), torch.cat([torch.zeros_like(table[:1]), table + bias])]
