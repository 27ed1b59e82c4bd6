"""SmolVLM (Marafioti et al. 2025, arXiv 2504.05299) and Idefics 3 (Laurençon et al. 2024, arXiv 2408.12637), as
`transformers` stores them: SigLIP's encoder of pictures, a pixel shuffle, and a Llama."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec, Vocabulary
from mmtx.data.files.supported_keys import Keys, every, harmless, only, refusals, refuse, used
from mmtx.data.text.picture_marks import PictureMarks
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, head_outputs, one_id
from mmtx.interop.gpt2 import tie
from mmtx.interop.links import Link, Weights, both, same, shared
from mmtx.interop.llama import Llama
from mmtx.interop.picture_in_text import in_their_order, split_batch
from mmtx.interop.pictures import patch_link, picture_size, picture_spec, picture_values, square_patch
from mmtx.interop.rotary_decoder import RotaryDecoder
from mmtx.interop.squared_pictures import SQUARED, read_squared, write_squared
from mmtx.interop.two_towers import (
    PICTURE_KEYS,
    config_of_tower,
    square_side,
    tower_config,
    tower_links,
    tower_values,
)
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken

LLAMA = Llama()
ENCODER, PROJECTOR = "modality.image.encoder", "modality.image.projector"
IMAGE, CONNECTOR = "model.tokenizers.image", "model.connector.modality_projection.proj.weight"
EMBEDDINGS = tuple(f"model.tokenizers.{name}.embedding.weight" for name in ("text", "before"))

TEXT: Keys = {
    **LLAMA.config_keys(),
    "model_type": only("llama", note="a decoder of another family"),
    "architectures": harmless("the whole model has its own"),
    "tie_word_embeddings": harmless("the whole model's decides"),
    **every("qk_layer_norms use_resampler rope_interleaved", only(False, note="another architecture")),
    **every("perceiver_config pixel_shuffle_factor", harmless("of a resampler; `scale_factor` is what counts")),
    **every("is_llama_config _flash_attn_2_enabled neftune_noise_alpha", harmless("of its training")),
}
VISION: Keys = {
    **PICTURE_KEYS,
    "hidden_size": used("width", 1152),
    "num_attention_heads": used("heads", 16),
    "patch_size": used("square patches", 32),
    "hidden_act": used("activation", "gelu_pytorch_tanh"),
    "layer_norm_eps": used("normalisation", 1e-6),
    **every("size max_image_size", harmless("of the processor, whose own file has them")),
    "use_base_siglip": harmless("of its training"),
}


class SmolVLM(Family):
    """A picture within a text: what stands before it, the tokens of its patches, and what follows."""

    name = "smolvlm"
    body = "SmolVLMModel"
    kinds: ClassVar[Sequence[str]] = ("SmolVLMForConditionalGeneration", "SmolVLMModel")
    prefix = "model."
    backbone = "llama"
    keys: ClassVar[Keys] = {
        **NO_CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "text_config": used("the decoder, a Llama"),
        "vision_config": used("the encoder of pictures"),
        "image_token_id": used("the id in whose place a token of the picture stands", 128257),
        "scale_factor": used("patches on the side of the square that becomes a token", 2),
        "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", False),
        "vocab_size": harmless("that of `text_config` counts"),
        **every("_pad_token_id use_reentrant_checkpointing", harmless("mmtx masks padding; how it was trained")),
    }
    parts: ClassVar[Mapping[str, Keys]] = {"text_config": TEXT, "vision_config": VISION}
    generation = RotaryDecoder.generation
    preprocessor = SQUARED
    vocabularies = ("data/vocabulary",)
    same = {f"{PROJECTOR}.factor": "scale_factor"}
    renames = ((r"^(?=text_model\.|vision_model\.|connector\.)", "model."),)
    unused = r"position_ids$|rotary_emb\.inv_freq$"

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        vision = tower_config(config, "vision_config", VISION)
        vision |= {"patch_size": square_patch(vision, self.name), "image_size": square_side(vision)}
        _check_positions(vision)
        is_body, declared = config["architectures"] == [self.body], config["tie_word_embeddings"]
        tied = is_body or tie(weights, "model.text_model.embed_tokens.weight", declared)
        text = {**self._text(config), "tie_word_embeddings": tied}
        return {**config, "text_config": text, "vision_config": vision, "tie_word_embeddings": tied}

    def _text(self, config: Config) -> Config:
        given = {key: value for key, value in (config.get("text_config") or {}).items() if key != "architectures"}
        refuse([*refusals(given, TEXT, "config.json, text_config")], "the model")
        if config.get("eos_token_id") is not None:  # of generation_config.json, or an older file
            given["eos_token_id"] = config["eos_token_id"]
        return {**LLAMA.settled(given), "model_type": LLAMA.name}

    def describe(self, config: Config, files: Files) -> Described:
        text, vision = config["text_config"], config["vision_config"]
        size, channels = (vision["image_size"],) * 2, vision["num_channels"]
        decoder = LLAMA.describe(text, files)
        prepared = read_squared(files.side_files.get("preprocessor_config") or {}, size, channels)
        of_decoder = {path: value for path, value in decoder.values.items() if path != "data.context"}
        values = {
            **self.from_same(config),
            **of_decoder,
            **tower_values(vision, ENCODER),
            **picture_values(prepared, size, channels),
            f"{PROJECTOR}.causal": True,
            "modality.image.patch_size": vision["patch_size"],
            "modality.image.cut": vision["image_size"] % vision["patch_size"] > 0,
            "modality.text.context": decoder.values["data.context"],
            "modality.before.context": decoder.values["data.context"],
            "type_embeddings": False,
        }
        choices = ["data=manifest", "modality=[before,image,text]", "backbone=llama", "objective=[next_token]"]
        choices += [f"+backbone@{ENCODER}=transformer", f"+modality/projector@{PROJECTOR}=pixel_shuffle"]
        spec = decoder.specs["text"]
        if isinstance(spec.vocabulary, TextVocabulary):
            spec.vocabulary.picture = _marks(config, files)
        return Described(choices, values, {"before": spec, "image": picture_spec(size, channels), "text": spec})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        text = LLAMA.config(ours, specs)
        vision = config_of_tower(ours, ENCODER) | picture_size(specs)
        vision["patch_size"] = at(ours, "modality.image.patch_size")
        marks = getattr(specs["text"].vocabulary, "picture", None)
        if marks is None:
            raise KeyError("vocabulary with an id for pictures")
        own = {"text_config": text, "vision_config": vision, "tie_word_embeddings": text["tie_word_embeddings"]}
        weights = {} if own["tie_word_embeddings"] else {"lm_head.weight": torch.empty(0)}  # there is a head
        given = {**self.to_same(ours), **own, "image_token_id": marks.number, "architectures": [self.kinds[0]]}
        return self.complete(given, weights)

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        return write_squared(ours, specs)

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        return LLAMA.roles(config["text_config"], vocabulary, learner)

    def links(self, config: Config) -> list[Link]:
        text, vision = config["text_config"], config["vision_config"]
        dim, patch, channels = (vision[key] for key in ("hidden_size", "patch_size", "num_channels"))
        there = "model.vision_model"
        embeddings = f"{there}.embeddings"
        return [
            *(_within(link) for link in LLAMA.links(text) if link.ours != EMBEDDINGS[:1]),
            shared(EMBEDDINGS, "model.text_model.embed_tokens.weight"),
            patch_link(f"{embeddings}.patch_embedding.weight", dim, channels, patch, f"{IMAGE}.tokenizer"),
            same(f"{IMAGE}.tokenizer.projection.bias", f"{embeddings}.patch_embedding.bias"),
            same(f"{IMAGE}.positions.table.weight", f"{embeddings}.position_embedding.weight"),
            *both(f"{IMAGE}.encoder.final_norm", f"{there}.post_layernorm"),
            *tower_links(f"{IMAGE}.encoder", there, vision["num_hidden_layers"]),
            same(f"{IMAGE}.projector.out.weight", CONNECTOR),
        ]

    def example(self, config: Config) -> dict[str, Tensor]:
        vision = config["vision_config"]
        count = (vision["image_size"] // vision["patch_size"] // config["scale_factor"]) ** 2
        ids = torch.full((2, count + 4), config["image_token_id"])
        ids[:, [0, 1, -2, -1]] = 0
        return {"input_ids": ids, "pixel_values": torch.zeros(2, vision["num_channels"], *(vision["image_size"],) * 2)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """Raises UserError for several pictures in a text, for parts of a picture that are masked, or where ids and
        pictures do not go together."""
        split = split_batch(learner, config["image_token_id"], **inputs)
        hidden = in_their_order(learner.model(split.batch), split)
        return head_outputs(learner, NextToken, hidden, config["architectures"] == [self.body])


class Idefics3(SmolVLM):
    """The same under the name that the first SmolVLM has, and Idefics 3."""

    name = "idefics3"
    body = "Idefics3Model"
    kinds = ("Idefics3ForConditionalGeneration", "Idefics3Model")


def _within(link: Link) -> Link:
    """A link of a Llama, as the decoder of another model has it."""
    return replace(link, theirs=tuple(key.replace("model.", "model.text_model.", 1) for key in link.theirs))


def _marks(config: Config, files: Files) -> PictureMarks:
    """How texts have their picture: by the id alone where the tokenizer spells it otherwise."""
    number = one_id(config, "image_token_id")
    assert number is not None
    return PictureMarks.of(number, files.tokenizer)


def _check_positions(vision: Config) -> None:
    """Raises UserError for a number of patches at which their rounding gives one the position of another.

    A patch is at the number of boundaries of float32, ``1 / n, 2 / n, ...``, that its own place has reached."""
    side = vision["image_size"] // vision["patch_size"]
    if side < 1:
        raise UserError(f"image_size={vision['image_size']} is smaller than patch_size={vision['patch_size']}")
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    places = (torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))).clamp(max=1 - 1e-6)
    if not torch.equal(torch.bucketize(places, boundaries, right=True), torch.arange(side)):
        raise UserError(
            f"image_size={vision['image_size']}, patch_size={vision['patch_size']}: of {side} patches on a side, this "
            f"family rounds some to the position of their neighbour; mmtx can 27 and 32, among others"
        )
