"""ESM-2 and ESM-1b (Lin et al. 2023, doi 10.1126/science.ade2574), of proteins, as `transformers` stores them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.bert import BODY_SAME
from mmtx.interop.class_labels import labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Files, at
from mmtx.interop.feed_forward import feed_forward, hidden_width
from mmtx.interop.links import Link, Weights, both, constant, encoder_block, idle, same
from mmtx.interop.masked_encoder import MaskedEncoder
from mmtx.nn.rotary_scaling import HALF_PRECISION

ROTARY, FREQUENCIES = "backbone.positions.rotary", "esm.rotary_embeddings.inv_freq"
BLOCK = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "LayerNorm",
}
PAD = 1
"""Id of ESM's ``<pad>``, behind which positions begin."""


class ESM(MaskedEncoder):
    """ESM with a head for masked residues, for classes, or without one."""

    name = "esm"
    body, masked, classes = "EsmModel", "EsmForMaskedLM", "EsmForSequenceClassification"
    kinds = (masked, body, classes)
    prefix = "esm."
    heads: ClassVar[Mapping[str, str]] = {classes: "classifier", masked: "lm_head"}
    marks: ClassVar[Mapping[str, str]] = {"cls_token": "<cls>", "eos_token": "<eos>", "mask_token": "<mask>"}
    keys: ClassVar[Keys] = {
        **CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "vocab_size": used("ids", 33),
        "hidden_size": used("width", 768),
        "num_hidden_layers": used("layers", 12),
        "num_attention_heads": used("heads", 12),
        "intermediate_size": used("width of the feed-forward half", 3072),
        "hidden_act": harmless("ESM has GELU, whatever stands here"),
        "hidden_dropout_prob": used("dropout; here of embeddings as well", 0.1),
        "classifier_dropout": harmless("`hidden_dropout_prob` goes before a head for classes"),
        "attention_probs_dropout_prob": used("dropout of attention", 0.1),
        "max_position_embeddings": used("context; of `absolute` positions, and those of padding", 1026),
        "initializer_range": used("new weights", 0.02),
        "layer_norm_eps": used("normalisation", 1e-12),
        "position_embedding_type": used("`rotary` or `absolute`", "absolute"),
        "rope_theta": used("base of the rotary positions, whose frequencies are in the file", 10000.0),
        "emb_layer_norm_before": used("normalisation of embeddings", False),
        "token_dropout": used("masks embed to zero, and the rest is scaled", False),
        "mask_token_id": used("the mask", None),
        "pad_token_id": used("behind it `absolute` positions begin", PAD),
        "is_folding_model": only(False, note="ESMFold"),
        **every("esmfold_config vocab_list", only(note="ESMFold")),
        "tie_word_embeddings": used("false: the head must equal the embedding", True),
        "add_pooling_layer": used("written by mmtx; the weights show it"),
        "frequencies_dtype": used("written by mmtx; the weights show it: half precision, to which they are rounded"),
    }
    nullable = ("mask_token_id",)
    generation = SILENT
    same = BODY_SAME
    renames = (
        (r"^(?=embeddings\.|encoder\.|pooler\.|contact_head\.|rotary_embeddings\.)", "esm."),
        (r"\.gamma$", ".weight"),
        (r"\.beta$", ".bias"),
        (r"encoder\.layer\.[\d*]+\.attention\.self\.rotary_embeddings\.", "rotary_embeddings."),
    )
    unused = r"position_ids$"
    copies: ClassVar[Mapping[str, str]] = {"lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        if config["position_embedding_type"] not in ("rotary", "absolute"):
            kind = config["position_embedding_type"]
            raise UserError(f"position_embedding_type={kind}: mmtx reads an esm with rotary and absolute positions")
        if config["token_dropout"] and config["mask_token_id"] is None:
            raise UserError("token_dropout=True needs mask_token_id, the id that embeds to zero")
        has_pooler = "esm.pooler.dense.weight" in weights
        return {**config, "add_pooling_layer": has_pooler, "frequencies_dtype": _rounding(config, weights)}

    def describe(self, config: Config, files: Files) -> Described:
        kind, is_rotary = config["architectures"][0], config["position_embedding_type"] == "rotary"
        longest = config["max_position_embeddings"] - (0 if is_rotary else config["pad_token_id"] + 1)
        mask, rounding = config["mask_token_id"], config.get("frequencies_dtype")
        values = self.from_same(config) | {
            **feed_forward("gelu", config["intermediate_size"], config["hidden_size"]),
            "backbone.input_norm": config["emb_layer_norm_before"],
            "modality.text.causal": False,
            "modality.text.context": longest,
            "modality.text.mask_dropout": mask if config["token_dropout"] else None,
        }
        if is_rotary:
            scaling = {"_target_": "mmtx.nn.RoundedFrequencies", "dtype": rounding} if rounding else None
            values |= {f"{ROTARY}.base": float(config["rope_theta"]), f"{ROTARY}.scaling": scaling}
            values[f"{ROTARY}.axes"] = ["row"]  # a bidirectional text is one item, in which time stands still
        choices = ["data=labelled_text", "modality=[text]", "backbone=transformer"]
        choices.append(f"backbone/positions={'rotary' if is_rotary else 'learned'}")
        if kind == self.masked:
            choices.append("objective=[masked_token]")
            values["objective.masked_token.mask"] = self.mask(config, files, 32 if mask is None else mask)
            values["objective.masked_token.norm_eps"] = config["layer_norm_eps"]
        else:
            choices += ["objective=[classify]", "objective/pool@objective.classify.pool=first"]
            values["objective.classify.pooler"] = kind == self.classes or config["add_pooling_layer"]
            values["objective.classify.dropout"] = config["hidden_dropout_prob"]
        return Described(choices, values, self.specs(config, files, longest))

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        objectives, rotary, text = at(ours, "objective"), at(ours, ROTARY), at(ours, "modality.text")
        pooler = bool(objectives.get("classify", {}).get("pooler"))
        mask = text.get("mask_dropout")
        longest = text["context"] or specs["text"].max_length
        positions: Config = {"max_position_embeddings": longest + PAD + 1, "position_embedding_type": "absolute"}
        if rotary is not None:
            dtype = (rotary.get("scaling") or {}).get("dtype")
            positions = {"max_position_embeddings": longest, "position_embedding_type": "rotary"}
            positions |= {"rope_theta": rotary["base"], "frequencies_dtype": dtype}
        masked = objectives["masked_token"]["mask"] if "masked_token" in objectives else mask
        kind = self.masked if "masked_token" in objectives else self.classes if pooler else self.body
        return {
            **self.to_same(ours),
            **positions,
            "emb_layer_norm_before": at(ours, "backbone.input_norm"),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "vocab_size": specs["text"].fields["ids"].num_classes,
            "token_dropout": mask is not None,
            "mask_token_id": masked,
            "pad_token_id": PAD,
            "architectures": [kind],
            "add_pooling_layer": False,
            **labels_of(specs),
        }

    def links(self, config: Config) -> list[Link]:
        layers, heads, kind = config["num_hidden_layers"], config["num_attention_heads"], config["architectures"][0]
        links = [
            same("model.tokenizers.text.embedding.weight", "esm.embeddings.word_embeddings.weight"),
            *both("model.backbone.final_norm", "esm.encoder.emb_layer_norm_after"),
            idle("esm.contact_head.regression.weight", (1, layers * heads)),
            idle("esm.contact_head.regression.bias", (1,)),
            _positions(config),
        ]
        if config["emb_layer_norm_before"]:
            links += both("model.backbone.input_norm", "esm.embeddings.layer_norm")
        for layer in range(layers):
            block, there = f"model.backbone.blocks.{layer}", f"esm.encoder.layer.{layer}"
            links += encoder_block(block, there, attention="attention.self", names=BLOCK)
        if kind == self.masked:
            links += both("objectives.masked_token.transform.0", "lm_head.dense")
            links += both("objectives.masked_token.transform.2", "lm_head.layer_norm")
            return [*links, same("objectives.masked_token.bias", "lm_head.bias")]
        if kind == self.classes:
            return links + both("objectives.classify.pooler.0", "classifier.dense") + _head()
        return links + (both("objectives.classify.pooler.0", "esm.pooler.dense") if config["add_pooling_layer"] else [])


def _head() -> list[Link]:
    return both("objectives.classify.head", "classifier.out_proj")


def _positions(config: Config) -> Link:
    """Of a table, whose first rows are those of padding; or the frequencies, which follow from the config."""
    if config["position_embedding_type"] == "rotary":
        exact, rounding = _frequencies(config), config.get("frequencies_dtype")
        return constant(FREQUENCIES, exact.to(getattr(torch, rounding)).float() if rounding else exact)
    skipped = config["pad_token_id"] + 1
    return Link(
        ("model.position_embeddings.text.table.weight",),
        ("esm.embeddings.position_embeddings.weight",),
        lambda t: [t[0][skipped:].contiguous()],
        lambda o: [torch.cat([o[0].new_zeros(skipped, o[0].shape[1]), o[0]])],
    )


def _frequencies(config: Config) -> Tensor:
    """Radians per position of each pair of a head."""
    width = config["hidden_size"] // config["num_attention_heads"]
    return 1.0 / config["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)


def _rounding(config: Config, weights: Weights) -> str | None:
    """The type of half precision to which a file has rounded its frequencies, if any.

    Raises:
        UserError: they are those of another base.
    """
    given = weights.get(FREQUENCIES)
    exact = _frequencies(config)
    if given is None or config["position_embedding_type"] != "rotary" or given.shape != exact.shape:
        return None
    if torch.allclose(given.float(), exact, rtol=1e-6, atol=0):
        return None
    for name in HALF_PRECISION:
        if torch.allclose(given.float(), exact.to(getattr(torch, name)).float(), rtol=1e-6, atol=0):
            return name
    raise UserError(f"rope_theta={config['rope_theta']} has other frequencies than {FREQUENCIES} of the file")
