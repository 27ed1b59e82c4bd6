"""VideoMAE's encoder (Tong et al. 2022), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, used
from mmtx.errors import UserError
from mmtx.interop.bert import BODY_SAME
from mmtx.interop.class_labels import check_classes, label_spec, labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.image_preprocessing import PREPROCESSOR, VIDEOMAE, read_preprocessor, write_preprocessor
from mmtx.interop.links import PARTS, Link, Weights, both, encoder_block, reshaped, same
from mmtx.interop.pictures import picture_values, sides, square_patch
from mmtx.interop.vit import BLOCK
from mmtx.learner import Learner
from mmtx.modalities.video import Video
from mmtx.objectives.classify import Classify

VIDEO = "model.tokenizers.video"
PROCESSOR = "VideoMAEImageProcessor"
NORM: Config = {"_target_": "torch.nn.LayerNorm", "_partial_": True}
"""Of the mean over all tokens, before the head."""


class VideoMAE(Family):
    """VideoMAE with a head for classes, of the mean or of the first token, or without one."""

    name = "videomae"
    body = "VideoMAEModel"
    prefix = "videomae."
    kinds = ("VideoMAEModel", "VideoMAEForVideoClassification")
    backbone = "vit"
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
        "image_size": used("height and width of frames in pixels", 224),
        "patch_size": used("square patches", 16),
        "num_channels": used("channels", 3),
        "num_frames": used("frames of a film; of a longer one, so many that are equally far apart", 16),
        "tubelet_size": used("frames of a tubelet, which divide `num_frames`", 2),
        "qv_bias": used("biases of queries and values", True),
        "qkv_bias": used("its former name, which goes before it"),
        "use_mean_pooling": used("the mean is normalised before the head, and no token is; else all are", True),
        "tie_word_embeddings": harmless("there are no words"),
        **every(
            "decoder_num_attention_heads decoder_hidden_size decoder_num_hidden_layers decoder_intermediate_size "
            "norm_pix_loss",
            harmless("the decoder of VideoMAEForPreTraining, which is refused"),
        ),
    }
    generation = SILENT
    preprocessor = PREPROCESSOR
    same = {
        **BODY_SAME,
        "modality.video.patch_size": "patch_size",
        "modality.video.tubelet_frames": "tubelet_size",
    }
    renames = (
        (r"^(?=embeddings\.|encoder\.|layernorm\.)", "videomae."),
        (r"\.attention\.attention\.query\.bias$", ".attention.attention.q_bias"),
        (r"\.attention\.attention\.value\.bias$", ".attention.attention.v_bias"),
    )
    modules = (
        (r"\.attention\.q_bias$", ".attention.query.bias"),
        (r"\.attention\.v_bias$", ".attention.value.bias"),
    )
    added = {"video": (f"{VIDEO}.projection.bias",)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        config["patch_size"] = square_patch(config, self.name)
        config["qv_bias"] = config.pop("qkv_bias", config["qv_bias"])
        if not isinstance(config["qv_bias"], bool):
            raise UserError(f"qkv_bias={config['qv_bias']!r} is neither true nor false")
        frames, tubelet = config["num_frames"], config["tubelet_size"]
        if frames % tubelet:
            raise UserError(f"num_frames={frames} is no multiple of tubelet_size={tubelet}, and the rest would be lost")
        has_head = "classifier.weight" in weights
        if not has_head and config["architectures"] == [self.kinds[1]]:
            raise UserError(f"this {self.kinds[1]} lacks its head: classifier.weight is missing")
        kind = self.kinds[1] if has_head else self.kinds[0]
        if has_head:
            rows = len(weights["classifier.weight"])
            check_classes({**config, "architectures": [kind]}, rows)
            config["num_labels"] = rows
        return {**config, "architectures": [kind]}

    def describe(self, config: Config, files: Files) -> Described:
        size, channels, has_head = sides(config), config["num_channels"], config["architectures"] == [self.kinds[1]]
        given = files.side_files.get("preprocessor_config", {}) or _plain(size, channels)
        prepared = picture_values(
            read_preprocessor({"image_processor_type": PROCESSOR, **given}, size, channels), size, channels
        )
        of_mean = config["use_mean_pooling"]
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"]),
            **{path.replace(".image.", ".video."): value for path, value in prepared.items()},
            "backbone.attention.bias": ["query", "value", "out"] if config["qv_bias"] else ["out"],
            "backbone.final_norm": not of_mean,
            "modality.video.causal": False,
            "data.max_frames": config["num_frames"],
            "objective.classify.pooler": NORM if has_head and of_mean else False,
        }
        choices = ["data=manifest", "modality=[video]", "backbone=vit", "backbone/positions=cells"]
        choices += ["objective=[classify]", f"objective/pool@objective.classify.pool={_pool(has_head, of_mean)}"]
        if has_head and not of_mean:
            values["objective.classify.pool.name"] = "video"
        frames = Field((None, channels, *size), torch.uint8, max_length=config["num_frames"])
        specs = {
            "video": Spec({"frames": frames}),
            "label": label_spec(config, config["num_labels"] if has_head else None),
        }
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        if at(ours, "modality.video.causal"):
            raise UserError("modality.video.causal=true: frames of a VideoMAE attend to all frames")
        frames = specs["video"].fields["frames"]
        channels, rows, columns = frames.shape[1:]
        has_head = _pool_of(ours) == "FirstPool" or bool(at(ours, "objective.classify.pooler"))
        return self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "num_channels": channels,
            "image_size": rows if rows == columns else [rows, columns],
            "num_frames": frames.max_length,
            "qv_bias": "query" in at(ours, "backbone.attention.bias"),
            "use_mean_pooling": not at(ours, "backbone.final_norm"),
            "architectures": [self.kinds[has_head]],
            **labels_of(specs),
        }

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        channels, rows, columns = (size or 0 for size in specs["video"].fields["frames"].shape[1:])
        given = (at(ours, f"modality.video.{key}") for key in ("mean", "std"))
        mean, std = (value if isinstance(value, list) else [value] * channels for value in given)
        fit = ours.get("data", {}).get("fit") or {}
        return {"preprocessor_config": write_preprocessor(PROCESSOR, mean, std, (rows, columns), fit)}

    def links(self, config: Config) -> list[Link]:
        dim, patch, frames = (config[key] for key in ("hidden_size", "patch_size", "tubelet_size"))
        shape = (dim, config["num_channels"], frames, patch, patch)
        projection = "videomae.embeddings.patch_embeddings.projection"
        links = [
            reshaped(f"{VIDEO}.projection.weight", f"{projection}.weight", (dim, shape[1] * frames * patch**2), shape),
            same(f"{VIDEO}.projection.bias", f"{projection}.bias"),
        ]
        for layer in range(config["num_hidden_layers"]):
            block, there = f"model.backbone.blocks.{layer}", f"videomae.encoder.layer.{layer}"
            links += encoder_block(block, there, attention="attention.attention", names=BLOCK, biases=())
            if config["qv_bias"]:
                links += [
                    same(f"{block}.attention.biases.{part}", f"{there}.attention.attention.{part[0]}_bias")
                    for part in PARTS
                    if part != "key"
                ]
        if not config["use_mean_pooling"]:
            links += both("model.backbone.final_norm", "videomae.layernorm")
        if config["architectures"] == [self.kinds[1]]:
            links += both("objectives.classify.head", "classifier")
            links += both("objectives.classify.pooler", "fc_norm") if config["use_mean_pooling"] else []
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(2, config["num_frames"], config["num_channels"], *sides(config))}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        states = learner.model(_film_batch(learner, inputs["pixel_values"]))
        if config["architectures"] == [self.kinds[0]]:
            return {"last_hidden_state": states.tokens("video")}
        classify = learner.objective("classify")
        assert isinstance(classify, Classify)
        return {"logits": classify.head(classify.pooled(states))}


def _plain(size: tuple[int, int], channels: int) -> Config:
    """The preprocessing of a model without a file of it; their usual mean and deviation are of three channels."""
    scale = {} if channels == len(VIDEOMAE["image_mean"]) else {"image_mean": 0.5, "image_std": 0.5}
    return {"size": {"shortest_edge": min(size)}, "crop_size": {"height": size[0], "width": size[1]}, **scale}


def _pool(has_head: bool, of_mean: bool) -> str:
    return "first" if has_head and not of_mean else "mean"


def _pool_of(ours: Mapping[str, Any]) -> str:
    return str(at(ours, "objective.classify.pool._target_")).rpartition(".")[2]


def _film_batch(learner: Learner, pixel_values: Tensor) -> Batch:
    """A batch of normalised films, all of one length."""
    tokenizer = learner.model.tokenizer("video")
    assert isinstance(tokenizer, Video)
    frames = (pixel_values * tokenizer.std + tokenizer.mean) * tokenizer.scale  # pixels as in files
    lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
    return Batch({"video": {"frames": frames}}, {"video": lengths}, {"video": True})
