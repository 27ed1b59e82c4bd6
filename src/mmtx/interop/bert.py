"""BERT (Devlin et al. 2018), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec, Vocabulary
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.class_labels import check_classes, label_spec, labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, text_batch
from mmtx.interop.feed_forward import activation, activation_name, feed_forward, hidden_width
from mmtx.interop.links import Link, Weights, both, encoder_block, same
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify
from mmtx.objectives.masked_token import MaskedToken

BLOCK = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
MAYBE_WITHOUT_POOLER = ("BertModel", "BertForMaskedLM")
HEADS = {
    "BertModel": (),
    "BertForMaskedLM": ("cls.predictions",),
    "BertForNextSentencePrediction": ("cls.seq_relationship",),
    "BertForPreTraining": ("cls.predictions", "cls.seq_relationship"),
    "BertForSequenceClassification": ("classifier",),
}
"""Prefixes of the head's weights, by architecture; a file may have more heads."""


BODY_SAME = {
    "backbone.dim": "hidden_size",
    "backbone.num_layers": "num_hidden_layers",
    "backbone.num_heads": "num_attention_heads",
    "backbone.norm.eps": "layer_norm_eps",
    "backbone.dropout": "hidden_dropout_prob",
    "backbone.attention.dropout": "attention_probs_dropout_prob",
    "backbone.init_std": "initializer_range",
}


class BERT(Family):
    """BERT with a head for masked ids, for the next sentence, for both, for classes, or without one."""

    name = "bert"
    body = "BertModel"
    prefix = "bert."
    kinds = tuple(HEADS)
    keys: ClassVar[Keys] = {
        **CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "vocab_size": used("ids", 30522),
        "hidden_size": used("width", 768),
        "num_hidden_layers": used("layers", 12),
        "num_attention_heads": used("heads", 12),
        "intermediate_size": used("width of the feed-forward half", 3072),
        "hidden_act": used("activation", "gelu"),
        "hidden_dropout_prob": used("dropout", 0.1),
        "attention_probs_dropout_prob": used("dropout of attention", 0.1),
        "classifier_dropout": used("dropout before a head for classes; null: as `hidden_dropout_prob`"),
        "max_position_embeddings": used("context", 512),
        "type_vocab_size": used("segments", 2),
        "initializer_range": used("new weights", 0.02),
        "layer_norm_eps": used("normalisation", 1e-12),
        "position_embedding_type": only("absolute", note="positions of another kind"),
        "tie_word_embeddings": used("false: the file must have a head, equal to the embedding", True),
        "add_pooling_layer": used("written by mmtx; the weights show it"),
        "directionality": only("bidi", note="attention in both directions"),
        "pooler_type": only("first_token_transform", note="pooling"),
        **every(
            "pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head",
            harmless("of a pooler that BERT does not have"),
        ),
    }
    generation = SILENT
    vocabularies = ("data/vocabulary",)
    same = {
        **BODY_SAME,
        "modality.text.context": "max_position_embeddings",
        "modality.text.num_segments": "type_vocab_size",
    }
    renames = (
        (r"\.gamma$", ".weight"),
        (r"\.beta$", ".bias"),
        (r"^(?=embeddings\.|encoder\.|pooler\.)", "bert."),
    )
    unused = r"position_ids$"
    copies = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    text_inputs = ("input_ids", "token_type_ids", "attention_mask")
    added = {"text": ("model.position_embeddings.text.table.weight",)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        known = ("cls.predictions", "cls.seq_relationship", "classifier")
        heads = {head for head in known if any(key.startswith(f"{head}.") for key in weights)}
        lacks_decoder = "cls.predictions" in heads and "cls.predictions.decoder.weight" not in weights
        missing = [head for head in HEADS[config["architectures"][0]] if head not in heads]
        if config["tie_word_embeddings"] is False and lacks_decoder:
            missing.append("cls.predictions.decoder.weight (tie_word_embeddings=False)")
        if missing:
            kind = config["architectures"][0]
            raise UserError(f"this {kind} lacks its head: {missing[0]} is missing; without one it is a BertModel")
        kind = next((kind for kind, own in HEADS.items() if set(own) == heads), None)
        if kind is None:
            raise UserError(f"this bert has heads {', '.join(sorted(heads))}; mmtx reads {', '.join(self.kinds)}")
        if kind == "BertForSequenceClassification":
            rows = len(weights["classifier.weight"])
            check_classes({**config, "architectures": [kind]}, rows)
            config["num_labels"] = rows
        has_pooler = "bert.pooler.dense.weight" in weights or kind not in MAYBE_WITHOUT_POOLER
        return {**config, "architectures": [kind], "add_pooling_layer": has_pooler}

    def describe(self, config: Config, files: Files) -> Described:
        size, dim, longest = config["vocab_size"], config["hidden_size"], config["max_position_embeddings"]
        vocabulary = files.vocabulary(
            size=size, begin=files.mark("cls_token", "[CLS]"), end=files.mark("sep_token", "[SEP]")
        )
        values = self.from_same(config) | {
            **feed_forward(config["hidden_act"], config["intermediate_size"], dim),
            "modality.text.causal": False,
            "modality.text.clock": "scene",  # bidirectional with a picture
        }
        chosen, kind = [], config["architectures"][0]
        if kind in ("BertForMaskedLM", "BertForPreTraining"):
            chosen.append("masked_token")
            values |= {
                "objective.masked_token.mask": _mask(files, size),
                "objective.masked_token.activation": activation(config["hidden_act"]),
                "objective.masked_token.norm_eps": config["layer_norm_eps"],
            }
        if kind != "BertForMaskedLM":
            chosen.append("classify")
            values["objective.classify.pooler"] = config["add_pooling_layer"]
            own = config.get("classifier_dropout")
            values["objective.classify.dropout"] = config["hidden_dropout_prob"] if own is None else own
        choices = ["data=labelled_text", "modality=[text]", "backbone=bert", f"objective=[{','.join(chosen)}]"]
        if "classify" in chosen:
            choices.append("objective/pool@objective.classify.pool=first")
        specs = {"text": Spec({"ids": Field((None,), torch.long, size, longest)}, vocabulary=vocabulary)}
        if "classify" in chosen:
            rows = config["num_labels"] if kind == "BertForSequenceClassification" else None
            specs["label"] = label_spec(config, rows)
        return Described(choices, values, specs)

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        objectives = at(ours, "objective")
        pooler = bool(objectives.get("classify", {}).get("pooler"))
        kinds = {
            ("masked_token",): "BertForMaskedLM",
            ("masked_token", "classify"): "BertForPreTraining",
            ("classify",): "BertForSequenceClassification" if pooler else "BertModel",
        }
        kind = kinds[tuple(objectives)]
        return self.to_same(ours) | {
            "hidden_act": activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "max_position_embeddings": at(ours, "modality.text.context") or specs["text"].fields["ids"].max_length,
            "vocab_size": specs["text"].fields["ids"].num_classes,
            "architectures": [kind],
            "add_pooling_layer": pooler or kind not in MAYBE_WITHOUT_POOLER,
            **labels_of(specs),
        }

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        own: dict[str, int | None] = {"pad_token": 0, "cls_token": vocabulary.begin, "sep_token": vocabulary.end}
        if "masked_token" in learner.objectives:
            objective = learner.objective("masked_token")
            assert isinstance(objective, MaskedToken)
            own["mask_token"] = objective.mask
        return {**own, **super().roles(config, vocabulary, learner)}

    def links(self, config: Config) -> list[Link]:
        text = "model.tokenizers.text"
        links = [
            same(f"{text}.embedding.weight", "bert.embeddings.word_embeddings.weight"),
            same("model.position_embeddings.text.table.weight", "bert.embeddings.position_embeddings.weight"),
            *both("model.backbone.input_norm", "bert.embeddings.LayerNorm"),
        ]
        if config["type_vocab_size"]:
            links.append(same(f"{text}.segment_embedding.weight", "bert.embeddings.token_type_embeddings.weight"))
        for layer in range(config["num_hidden_layers"]):
            block, there = f"model.backbone.blocks.{layer}", f"bert.encoder.layer.{layer}"
            links += encoder_block(block, there, attention="attention.self", names=BLOCK)
        if config["add_pooling_layer"]:
            links += both("objectives.classify.pooler.0", "bert.pooler.dense")
        return links + _heads(config["architectures"][0])

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(2, min(8, config["max_position_embeddings"]), dtype=torch.long)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        ids, mask, segments = (inputs.get(key) for key in ("input_ids", "attention_mask", "token_type_ids"))
        assert isinstance(ids, Tensor)
        states = learner.model(text_batch("text", ids, mask, segments=segments))
        hidden, kind = states.tokens("text"), config["architectures"][0]
        outputs: dict[str, Tensor] = {}
        if "masked_token" in learner.objectives:
            objective = learner.objective("masked_token")
            assert isinstance(objective, MaskedToken)
            outputs["prediction_logits" if kind == "BertForPreTraining" else "logits"] = objective.logits(
                learner.model, hidden
            )
        if kind == "BertModel":
            outputs["last_hidden_state"] = hidden
        if "classify" in learner.objectives:
            classify = learner.objective("classify")
            assert isinstance(classify, Classify)
            pooled = classify.pooled(states)
            if kind == "BertForPreTraining":
                outputs["seq_relationship_logits"] = classify.head(pooled)
            elif kind != "BertModel":
                outputs["logits"] = classify.head(pooled)
            elif config["add_pooling_layer"]:
                outputs["pooler_output"] = pooled
        return outputs


def _mask(files: Files, size: int) -> int:
    """Id of the mask token; without a tokenizer, that of BERT. Raises UserError where the tokenizer has none."""
    found = files.mark("mask_token", "[MASK]") if files.tokenizer is not None else min(103, size - 1)
    if found is None:
        raise UserError("this BERT predicts masked ids, and its tokenizer has no token [MASK]; name it as mask_token")
    return found


def _heads(kind: str) -> list[Link]:
    links: list[Link] = []
    if kind in ("BertForMaskedLM", "BertForPreTraining"):
        links += both("objectives.masked_token.transform.0", "cls.predictions.transform.dense")
        links += both("objectives.masked_token.transform.2", "cls.predictions.transform.LayerNorm")
        links.append(same("objectives.masked_token.bias", "cls.predictions.bias"))
    if kind in ("BertForPreTraining", "BertForNextSentencePrediction"):
        links += both("objectives.classify.head", "cls.seq_relationship")
    if kind == "BertForSequenceClassification":
        links += both("objectives.classify.head", "classifier")
    return links
