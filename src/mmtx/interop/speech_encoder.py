"""What wav2vec 2.0 and HuBERT share in `transformers`: convolutions over samples, an encoder, and a head for CTC or for
classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec, Vocabulary
from mmtx.errors import UserError
from mmtx.interop.class_labels import check_classes, label_spec, labels_of
from mmtx.interop.common_keys import SILENT
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation, activation_name, feed_forward, hidden_width
from mmtx.interop.links import PARTS, Link, Weights, both, idle, same, stacked
from mmtx.interop.speech_keys import MASKS, RATE, WAVEFORM
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify
from mmtx.objectives.ctc import CTC

STEM = "model.tokenizers.audio.stem"
MAX_SECONDS = 30.0
"""The longest sound that data declare; the family sets no limit."""
HEADS = ("lm_head.weight", "classifier.weight")
"""A weight of the head for CTC, and of that for classes."""
BLOCK = {
    "attention.out": "attention.out_proj",
    "attention_norm": "layer_norm",
    "mlp.up": "feed_forward.intermediate_dense",
    "mlp.down": "feed_forward.output_dense",
    "mlp_norm": "final_layer_norm",
}


class SpeechEncoder(Family):
    """A model of waveforms with a head for CTC, for classes, or none. A family names its weights; its first three
    kinds are the body, the one for CTC, and the one for classes."""

    backbone = "wav2vec2"
    generation = SILENT
    preprocessor = WAVEFORM
    vocabularies = ("data/vocabulary",)
    nullable = ("pad_token_id",)
    same = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_attention_heads",
        "backbone.norm.eps": "layer_norm_eps",
        "backbone.dropout": "hidden_dropout",
        "backbone.mlp.dropout": "activation_dropout",
        "backbone.attention.dropout": "attention_dropout",
        "backbone.init_std": "initializer_range",
        "modality.audio.stem.widths": "conv_dim",
        "modality.audio.stem.kernels": "conv_kernel",
        "modality.audio.stem.strides": "conv_stride",
        "modality.audio.stem.bias": "conv_bias",
        "modality.audio.stem.norm_eps": "layer_norm_eps",
        "modality.audio.stem.dropout": "feat_proj_dropout",
        "modality.audio.stem.position_kernel": "num_conv_pos_embeddings",
        "modality.audio.stem.position_groups": "num_conv_pos_embedding_groups",
    }

    def __init_subclass__(cls) -> None:
        cls.prefix = f"{cls.name}."
        cls.renames = (
            (r"^(?=feature_extractor\.|feature_projection\.|encoder\.|masked_spec_embed$)", cls.prefix),
            (r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
            (r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
        )

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        kind = self._kind_of(config["architectures"][0], weights)
        if kind == self.kinds[2]:
            config["num_labels"] = len(weights["classifier.weight"])
            check_classes({**config, "architectures": [kind]}, config["num_labels"])
            _check_sum(config)
        if config["feat_extract_norm"] not in ("group", "layer"):
            raise UserError(f"feat_extract_norm={config['feat_extract_norm']} is neither group nor layer")
        if kind == self.kinds[1] and config["pad_token_id"] is None:
            raise UserError("pad_token_id=null: it is the blank of CTC; give its id")
        return {**config, "architectures": [kind]}

    def _kind_of(self, declared: str, weights: Weights) -> str:
        """The kind whose head is there. Raises UserError where the declared one lacks its own."""
        heads = dict(zip(self.kinds[1:3], HEADS, strict=True))
        if heads.get(declared, declared) not in (declared, *weights):
            raise UserError(f"this {declared} lacks its head: {heads[declared]} is missing")
        return next((kind for kind, head in heads.items() if head in weights), self.kinds[0])

    def describe(self, config: Config, files: Files) -> Described:
        prepared = {"sampling_rate": RATE, "do_normalize": True, **files.side_files.get("preprocessor_config", {})}
        stable, rate = config["do_stable_layer_norm"], prepared["sampling_rate"]
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"]),
            "type_embeddings": False,
            "backbone.input_norm": not stable,
            "backbone.norm_place": "before" if stable else "after",
            "backbone.final_norm": stable,
            "backbone.layer_sum": config["architectures"] == [self.kinds[2]] and config["use_weighted_layer_sum"],
            "modality.audio.spectrogram.sample_rate_hz": rate,
            "modality.audio.spectrogram.normalise": prepared["do_normalize"],
            "modality.audio.stem.layer_norms": config["feat_extract_norm"] == "layer",
            "modality.audio.stem.activation": activation(config["feat_extract_activation"]),
            "modality.audio.stem.projection_norm": config.get("feat_proj_layer_norm", True),
            "modality.audio.stem.masks": _masks(config),
            "data.sample_rate_hz": rate,
            "data.max_seconds": MAX_SECONDS,
        }
        waveform = Field((None,), torch.float32, max_length=round(MAX_SECONDS * rate))
        specs = {"audio": Spec({"waveform": waveform}, sample_rate_hz=rate)}
        choices = [
            *("data=audio_manifest", "modality=[audio]", "backbone=wav2vec2"),
            "modality/spectrogram@modality.audio.spectrogram=samples",
            "modality/stem@modality.audio.stem=waveform",
        ]
        if config["architectures"] != [self.kinds[1]]:
            has_head = config["architectures"] == [self.kinds[2]]
            specs["label"] = label_spec(config, config["num_labels"] if has_head else None)
            values |= {"objective.classify.pooler": _pooler(config["classifier_proj_size"])} if has_head else {}
            return Described([*choices, "objective=[classify]"], values, specs)
        size, blank = config["vocab_size"], config["pad_token_id"]
        vocabulary = files.vocabulary(size=size, begin=blank, end=blank)  # marks that no text of CTC has
        specs["text"] = Spec({"ids": Field((None,), torch.long, size, waveform.max_length)}, vocabulary=vocabulary)
        values |= {"objective.ctc.blank": blank, "objective.ctc.dropout": config["final_dropout"]}
        return Described([*choices, "objective=[ctc]"], values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        stem, objectives = at(ours, "modality.audio.stem"), at(ours, "objective")
        pooler, sums = objectives.get("classify", {}).get("pooler"), at(ours, "backbone").get("layer_sum", False)
        config = self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "do_stable_layer_norm": at(ours, "backbone.norm_place") == "before",
            "feat_extract_norm": "layer" if stem["layer_norms"] else "group",
            "feat_extract_activation": activation_name(stem["activation"]),
            "num_feat_extract_layers": len(stem["kernels"]),
            "architectures": [self.kinds[1 if "ctc" in objectives else 2 if pooler else 0]],
            **_written_masks(stem["masks"]),
        }
        if pooler:
            head = {"use_weighted_layer_sum": sums, "classifier_proj_size": at(pooler, "out_features")}
            _check_sum(config | head)
            return {**config, **head, **labels_of(specs)}
        if sums:
            raise UserError(
                "backbone.layer_sum=true: it has that for a head for classes alone, objective.classify.pooler"
            )
        if "ctc" not in objectives:
            return config
        objective, count = at(ours, "objective.ctc"), specs["text"].fields["ids"].num_classes or 0
        own = objective.get("blank")
        blank, rows = (count, count + 1) if own is None else (own, count)
        return config | {"vocab_size": rows, "pad_token_id": blank, "final_dropout": objective.get("dropout", 0.0)}

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        samples, stem = at(ours, "modality.audio.spectrogram"), at(ours, "modality.audio.stem")
        prepared = {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": samples["sample_rate_hz"],
            "do_normalize": samples["normalise"],
            "padding_value": 0.0,
            "padding_side": "right",
            "return_attention_mask": stem["layer_norms"],
        }
        return {"preprocessor_config": prepared}

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        return {"pad_token": config["pad_token_id"]}

    def links(self, config: Config) -> list[Link]:
        links = _stem_links(self.prefix, config)
        norm = "final_norm" if config["do_stable_layer_norm"] else "input_norm"
        links += both(f"model.backbone.{norm}", f"{self.prefix}encoder.layer_norm")
        for layer in range(config["num_hidden_layers"]):
            block, there = f"model.backbone.blocks.{layer}", f"{self.prefix}encoder.layers.{layer}"
            maps = {part: f"{there}.attention.{part[0]}_proj" for part in PARTS}
            links.append(stacked(f"{block}.attention.qkv.weight", [f"{name}.weight" for name in maps.values()]))
            links += [same(f"{block}.attention.biases.{part}", f"{name}.bias") for part, name in maps.items()]
            for ours, theirs in BLOCK.items():
                links += both(f"{block}.{ours}", f"{there}.{theirs}")
        if config["architectures"] == [self.kinds[1]]:
            links += both("objectives.ctc.head", "lm_head")
        return links + (_class_links(config) if config["architectures"] == [self.kinds[2]] else [])

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_values": torch.zeros(2, RATE)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        """Of samples that are prepared already, with ``attention_mask`` where their lengths differ."""
        states = learner.model(_sound_batch(inputs["input_values"], inputs.get("attention_mask")))
        if config["architectures"] == [self.kinds[0]]:
            return {"last_hidden_state": states.tokens("audio")}
        if config["architectures"] == [self.kinds[2]]:
            classify = learner.objective("classify")
            assert isinstance(classify, Classify)
            return {"logits": classify.head(classify.pooled(states))}
        objective = learner.objective("ctc")
        assert isinstance(objective, CTC)
        return {"logits": objective.head(objective.dropout(states.tokens("audio")))}


def _stem_links(prefix: str, config: Config) -> list[Link]:
    """Links of the convolutions, the linear map behind them, and the convolution of positions."""
    links, parts = [], ("weight", "bias") if config["conv_bias"] else ("weight",)
    for layer in range(len(config["conv_dim"])):
        there = f"{prefix}feature_extractor.conv_layers.{layer}"
        links += [same(f"{STEM}.convolutions.{layer}.{part}", f"{there}.conv.{part}") for part in parts]
        if config["feat_extract_norm"] == "layer":
            links += both(f"{STEM}.layer_norms.{layer}", f"{there}.layer_norm")
        elif layer == 0:
            links += both(f"{STEM}.clip_norm", f"{there}.layer_norm")
    if config.get("feat_proj_layer_norm", True):
        links += both(f"{STEM}.norm", f"{prefix}feature_projection.layer_norm")
    links += both(f"{STEM}.projection", f"{prefix}feature_projection.projection")
    there = f"{prefix}encoder.pos_conv_embed.conv"
    for ours, number in (("scale", 0), ("direction", 1)):
        links.append(same(f"{STEM}.positions.{ours}", f"{there}.parametrizations.weight.original{number}"))
    links.append(same(f"{STEM}.positions.bias", f"{there}.bias"))
    return links + _mask_links(f"{prefix}masked_spec_embed", config)


def _check_sum(config: Config) -> None:
    """Raises UserError where it is not known what a head for classes reads."""
    if config["use_weighted_layer_sum"] and config["do_stable_layer_norm"]:
        raise UserError(
            "use_weighted_layer_sum=true with do_stable_layer_norm=true: the last of the layers that are summed is "
            "normalised in transformers 4, and not in transformers 5; mmtx reads either of the two keys alone"
        )


def _class_links(config: Config) -> list[Link]:
    """Links of the head for classes, whose first linear map of all tokens is one of their mean."""
    links = [*both("objectives.classify.pooler", "projector"), *both("objectives.classify.head", "classifier")]
    sums = [same("model.backbone.layer_sum.weights", "layer_weights")] if config["use_weighted_layer_sum"] else []
    return links + sums


def _pooler(width: int) -> dict[str, Any]:
    """The config node of a linear map to that width."""
    return {"_target_": "torch.nn.Linear", "_partial_": True, "out_features": width}


def _mask_links(theirs: str, config: Config) -> list[Link]:
    """The link of the vector of masked tokens, which files of models that mask have, in training or not."""
    if _masks(config) is not None:
        ours = f"{STEM}.masks.vector"
        return [Link((ours,), (theirs,), lambda t: t, lambda o: o, optional=True)]
    has_vector = config["mask_time_prob"] > 0 or config["mask_feature_prob"] > 0
    return [idle(theirs, (config["hidden_size"],))] if has_vector else []


def _masks(config: Config) -> dict[str, Any] | None:
    """The config node of `SpanMasks`; None where nothing is masked."""
    if not config["apply_spec_augment"] or not (config["mask_time_prob"] or config["mask_feature_prob"]):
        return None
    own = {ours: config[theirs] for ours, theirs in MASKS.items()}
    return {"_target_": "mmtx.modalities.SpanMasks", "_partial_": True, **own}


def _written_masks(node: Mapping[str, Any] | None) -> Config:
    """The inverse of `_masks`."""
    if node is None:
        return {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return {"apply_spec_augment": True, **{theirs: node[ours] for ours, theirs in MASKS.items()}}


def _sound_batch(values: Tensor, mask: Tensor | None) -> Batch:
    """A batch of samples ``(B, S)``. Raises UserError unless padding stands at the end."""
    lengths = torch.full((values.shape[0],), values.shape[1], device=values.device)
    if mask is not None:
        lengths = mask.long().sum(1)
        if not torch.equal(mask.bool(), torch.arange(values.shape[1], device=values.device) < lengths[:, None]):
            raise UserError("attention_mask: sounds must be padded at their end, real samples first")
    return Batch({"audio": {"frames": values[..., None]}}, {"audio": lengths}, {"audio": mask is None})
