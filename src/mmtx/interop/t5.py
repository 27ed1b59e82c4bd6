"""T5 (Raffel et al. 2020), versions 1.0 and 1.1, as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Key, Keys, harmless, used
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SUPPRESSED, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, head_outputs, one_id, text_batch
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.gpt2 import tie
from mmtx.interop.links import Link, Weights, same, shared, stacked
from mmtx.learner import Learner
from mmtx.objectives.seq2seq import Seq2Seq

LONGEST = 1024
"""Most ids of a text; T5 itself has no limit."""


def _repeats_the_gate(value: Any, config: Mapping[str, Any]) -> bool:
    return value is None or value == config["feed_forward_proj"].startswith("gated-")


class T5(Family):
    name = "t5"
    kinds = ("T5ForConditionalGeneration", "T5Model")
    keys: ClassVar[Keys] = {
        **NO_CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(True),
        "vocab_size": used("ids", 32128),
        "d_model": used("width", 512),
        "d_kv": used("width of a head", 64),
        "d_ff": used("width of the feed-forward half", 2048),
        "num_layers": used("layers of the encoder", 6),
        "num_decoder_layers": used("layers of the decoder; null: as many", None),
        "num_heads": used("heads", 8),
        "relative_attention_num_buckets": used("positions", 32),
        "relative_attention_max_distance": used("positions", 128),
        "dropout_rate": used("dropout", 0.1),
        "classifier_dropout": harmless("the head of T5ForSequenceClassification, which is refused"),
        "layer_norm_epsilon": used("normalisation", 1e-6),
        "feed_forward_proj": used("activation, `gated-` in front where it is gated", "relu"),
        "dense_act_fn": used("the activation once more; goes before"),
        "is_gated_act": Key("harmless", "whether it is gated, once more", "as `feed_forward_proj`", _repeats_the_gate),
        "initializer_factor": harmless("new weights, of which there are none"),
        "n_positions": harmless("T5 has no absolute positions"),
        "pad_token_id": used("begins a text where `decoder_start_token_id` is null", 0),
        "eos_token_id": used("ends a text; one id", 1),
        "decoder_start_token_id": used("begins a text"),
        "tie_word_embeddings": used("whether scores are scaled; the head is tied where the file has none of its own"),
        "scale_decoder_outputs": used("whether scores are scaled; goes before"),
    }
    generation: ClassVar[Keys] = {
        **WRITING,
        **SUPPRESSED,
        "decoder_start_token_id": used("begins a text"),
    }
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }
    vocabularies = ("data/vocabulary@data.source_vocabulary", "data/vocabulary@data.target_vocabulary")
    same = {
        "backbone.dim": "d_model",
        "backbone.attention.head_dim": "d_kv",
        "backbone.num_heads": "num_heads",
        "backbone.num_layers": "num_decoder_layers",
        "backbone.positions.bias.num_buckets": "relative_attention_num_buckets",
        "backbone.positions.bias.max_distance": "relative_attention_max_distance",
        "backbone.dropout": "dropout_rate",
        "backbone.norm.eps": "layer_norm_epsilon",
        "encoder.num_layers": "num_layers",
    }
    copies = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in ("encoder", "decoder")}
    unused = r"EncDecAttention\.relative_attention_bias"

    def complete(self, config: Config, weights: Weights) -> Config:
        """The head is tied where the file has none; scaling follows ``tie_word_embeddings`` of the config."""
        config = super().complete(config, weights)
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
        start = config.get("decoder_start_token_id")
        return {
            **config,
            "num_decoder_layers": config["num_decoder_layers"] or config["num_layers"],
            "tie_word_embeddings": tie(weights, "shared.weight", True),
            "scale_decoder_outputs": bool(scaled),
            "decoder_start_token_id": config["pad_token_id"] if start is None else start,
        }

    def describe(self, config: Config, files: Files) -> Described:
        size, dim, end = config["vocab_size"], config["d_model"], one_id(config, "eos_token_id")
        kind, _, inner = config["feed_forward_proj"].rpartition("-")
        inner = config.get("dense_act_fn") or ("gelu_new" if kind and inner == "gelu" else inner)
        values = self.from_same(config) | {
            **feed_forward(inner, config["d_ff"], dim),
            "backbone.mlp.gated": bool(kind),
            "backbone.positions.bias.bidirectional": False,
            "encoder.positions": {"bias": {"bidirectional": True}},
            "encode": ["source"],
            "modality.target.share": "source",
            "modality.source.context": LONGEST,
            "modality.target.context": LONGEST,
            "objective.seq2seq.text": "target",
            "objective.seq2seq.tied": config["tie_word_embeddings"],
            "objective.seq2seq.logit_scale": dim**-0.5 if config["scale_decoder_outputs"] else 1.0,
        }
        ids = {"ids": Field((None,), torch.long, size, LONGEST)}
        begin = config["decoder_start_token_id"]
        specs = {
            "source": Spec(ids, vocabulary=files.vocabulary(size=size, begin=None, end=end)),
            "target": Spec(ids, vocabulary=files.vocabulary(size=size, begin=begin, end=end)),
        }
        choices = ["data=parallel_text", "modality=[source,target]", "backbone=t5", "objective=[seq2seq]"]
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        name, gated = activation_name(at(ours, "backbone.mlp.activation")), at(ours, "backbone.mlp.gated")
        vocabulary = specs["target"].vocabulary
        assert vocabulary is not None
        encoder = at(ours, "encoder")
        return {key: at(ours, path) for path, key in self.same.items() if path != "encoder.num_layers"} | {
            "num_layers": encoder.get("num_layers", at(ours, "backbone.num_layers")),
            "d_ff": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "feed_forward_proj": f"gated-{name.removesuffix('_new')}" if gated else name,
            "vocab_size": specs["target"].fields["ids"].num_classes,
            "tie_word_embeddings": at(ours, "objective.seq2seq.tied"),
            "scale_decoder_outputs": at(ours, "objective.seq2seq.logit_scale") != 1.0,
            "decoder_start_token_id": vocabulary.begin,
            "eos_token_id": vocabulary.end,
            "pad_token_id": 0,
            "is_encoder_decoder": True,
        }

    def links(self, config: Config) -> list[Link]:
        gated = config["feed_forward_proj"].startswith("gated-")
        names = [f"model.tokenizers.{name}.embedding.weight" for name in ("source", "target")]
        links = [shared(names, "shared.weight")]
        links += _stack("model.encoder", "encoder", config["num_layers"], gated)
        links += _stack("model.backbone", "decoder", config["num_decoder_layers"], gated)
        if not config["tie_word_embeddings"]:
            links.append(same("objectives.seq2seq.head.projection.weight", "lm_head.weight"))
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {key: torch.zeros(2, 8, dtype=torch.long) for key in ("input_ids", "decoder_input_ids")}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        hidden = learner.model(source_and_target(**inputs)).tokens("target")
        return head_outputs(learner, Seq2Seq, hidden, config["architectures"] == ["T5Model"])


def source_and_target(**inputs: Any) -> Any:
    """A batch of the family's inputs."""
    source = text_batch("source", inputs["input_ids"], inputs.get("attention_mask"))
    target = text_batch("target", inputs["decoder_input_ids"], inputs.get("decoder_attention_mask"))
    return target.with_name("source", source["source"], source.lengths["source"], source.full["source"])


def _stack(here: str, there: str, num_layers: int, gated: bool) -> list[Link]:
    first = f"{there}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    links = [
        same(f"{here}.position_bias.table.weight", first),
        same(f"{here}.final_norm.weight", f"{there}.final_layer_norm.weight"),
    ]
    halves = ["attention", "cross_attention", "mlp"] if there == "decoder" else ["attention", "mlp"]
    names = {"attention": "SelfAttention", "cross_attention": "EncDecAttention", "mlp": "DenseReluDense"}
    for number in range(num_layers):
        block = f"{here}.blocks.{number}"
        for index, half in enumerate(halves):
            layer = f"{there}.block.{number}.layer.{index}"
            links.append(same(f"{block}.{half}_norm.weight", f"{layer}.layer_norm.weight"))
            part = f"{layer}.{names[half]}"
            if half != "mlp":
                links.append(stacked(f"{block}.{half}.qkv.weight", [f"{part}.{linear}.weight" for linear in "qkv"]))
                links.append(same(f"{block}.{half}.out.weight", f"{part}.o.weight"))
                continue
            up = ["wi_0", "wi_1"] if gated else ["wi"]
            links.append(stacked(f"{block}.mlp.up.weight", [f"{part}.{name}.weight" for name in up]))
            links.append(same(f"{block}.mlp.down.weight", f"{part}.wo.weight"))
    return links
