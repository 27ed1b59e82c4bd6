"""ModernBERT (Warner et al. 2024, arXiv 2412.13663), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.class_labels import labels_of
from mmtx.interop.common_keys import CLASSES, DECODER_FLAGS, SILENT, encoder_decoder
from mmtx.interop.family import Config, Described, Files, at
from mmtx.interop.feed_forward import activation, activation_name, feed_forward, hidden_width
from mmtx.interop.layer_types import FULL, SLIDING, read_types, write_types
from mmtx.interop.links import PARTS, Link, Weights, cut, same
from mmtx.interop.masked_encoder import MaskedEncoder

GLOBAL, LOCAL = "backbone.positions.rotary", "backbone.kinds.L.rotary"
BASES = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}
TEXT = "model.tokenizers.text.embedding.weight"


class ModernBERT(MaskedEncoder):
    """ModernBERT with a head for masked ids, for classes, or without one."""

    name = "modernbert"
    body, masked, classes = "ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"
    kinds = (masked, body, classes)
    prefix = "model."
    heads: ClassVar[Mapping[str, str]] = {classes: "classifier", masked: "head"}
    marks: ClassVar[Mapping[str, str]] = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    keys: ClassVar[Keys] = {
        **CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "vocab_size": used("ids", 50368),
        "hidden_size": used("width", 768),
        "num_hidden_layers": used("layers", 22),
        "num_attention_heads": used("heads", 12),
        "intermediate_size": used("width of the gated feed-forward half", 1152),
        "hidden_activation": used("activation of the gate", "gelu"),
        "max_position_embeddings": used("context", 8192),
        "norm_eps": used("normalisation", 1e-5),
        "norm_bias": used("biases of all norms", False),
        "attention_bias": used("biases of attention, all four", False),
        "mlp_bias": used("biases of the feed-forward half", False),
        "attention_dropout": used("dropout of attention", 0.0),
        "embedding_dropout": only(0, note="dropout of embeddings alone"),
        "mlp_dropout": only(0, note="dropout within the feed-forward half"),
        "local_attention": used("a layer with a window reaches half as far, both ways", 128),
        "layer_types": used("which layers have a window"),
        "global_attn_every_n_layers": used("one layer of so many has none, the first; `layer_types` goes before", 3),
        "rope_parameters": used("base of the rotary positions of each kind of layers", None),
        BASES[FULL]: used("the same, as older versions write it", 160000.0),
        BASES[SLIDING]: used("the same", 10000.0),
        "rope_scaling": only(note="texts beyond the context"),
        "initializer_range": used("new weights", 0.02),
        "initializer_cutoff_factor": harmless("new weights"),
        "decoder_bias": only(True, note="scores of ids without a bias"),
        "classifier_bias": used("bias of the linear map of the head", False),
        "classifier_activation": used("activation of the head", "gelu"),
        "classifier_dropout": used("dropout before a head for classes", 0.0),
        "classifier_pooling": used("`cls` or `mean`", "cls"),
        **every("sparse_prediction sparse_pred_ignore_index", harmless("of what a call with targets returns")),
        **every("deterministic_flash_attn reference_compile repad_logits_with_grad", harmless("speed")),
        **every("layer_norm_eps position_embedding_type hidden_act", harmless("nothing of the family reads it")),
        "cls_token_id": harmless("mmtx takes tokens by their spelling"),
        "tie_word_embeddings": used("false: the head must equal the embedding", True),
    }
    nullable = ("rope_parameters",)
    generation = SILENT
    same: ClassVar[Mapping[str, str]] = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_attention_heads",
        "backbone.norm.eps": "norm_eps",
        "backbone.norm.bias": "norm_bias",
        "backbone.mlp.bias": "mlp_bias",
        "backbone.attention.dropout": "attention_dropout",
        "backbone.init_std": "initializer_range",
        "modality.text.context": "max_position_embeddings",
    }
    renames = ((r"^(?=embeddings\.|layers\.|final_norm\.)", "model."),)
    copies: ClassVar[Mapping[str, str]] = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = _with_bases(super().complete(config, weights))
        if config["classifier_pooling"] not in ("cls", "mean"):
            raise UserError(f"classifier_pooling={config['classifier_pooling']}: mmtx pools by cls or mean")
        every, layers = config["global_attn_every_n_layers"], range(config["num_hidden_layers"])
        pattern = [SLIDING if layer % every else FULL for layer in layers]
        return {**config, "layer_types": config.get("layer_types") or pattern}

    def describe(self, config: Config, files: Files) -> Described:
        kind, width = config["architectures"][0], config["local_attention"] // 2 + 1
        values = self.from_same(config) | {
            **feed_forward(config["hidden_activation"], config["intermediate_size"], config["hidden_size"]),
            **read_types(config["layer_types"], config["num_hidden_layers"], width),
            "backbone.mlp.gated": True,
            "backbone.attention.bias": [*PARTS, "out"] if config["attention_bias"] else [],
            "backbone.input_norm": True,
            "backbone.skip_first_norm": True,
            f"{GLOBAL}.base": float(config[BASES[FULL]]),
            f"{GLOBAL}.axes": ["row"],  # a bidirectional text is one item, in which time stands still
            LOCAL: {"_target_": "mmtx.nn.Rotary", "axes": ["row"], "base": float(config[BASES[SLIDING]])},
            "modality.text.causal": False,
        }
        choices = ["data=labelled_text", "modality=[text]", "backbone=transformer", "backbone/positions=rotary"]
        if kind == self.masked:
            choices.append("objective=[masked_token]")
            values["objective.masked_token.mask"] = self.mask(config, files, 50284)
            values |= {f"objective.masked_token.{key}": value for key, value in _transform(config).items()}
        else:
            pool = {"cls": "first", "mean": "mean"}[config["classifier_pooling"]]
            choices += ["objective=[classify]", f"objective/pool@objective.classify.pool={pool}"]
            made = {"_target_": "mmtx.objectives.Transform", "_partial_": True, **_transform(config)}
            values["objective.classify.pooler"] = made if kind == self.classes else False
            values["objective.classify.dropout"] = config["classifier_dropout"]
        return Described(choices, values, self.specs(config, files, config["max_position_embeddings"]))

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        backbone, objectives = at(ours, "backbone"), at(ours, "objective")
        classify = objectives.get("classify", {})
        head = objectives.get("masked_token") or classify.get("pooler") or {}
        kind = self.masked if "masked_token" in objectives else self.classes if head else self.body
        ids = specs["text"].fields["ids"]
        return {
            **self.to_same(ours),
            **_head_keys(head),
            "hidden_activation": activation_name(at(backbone, "mlp.activation")),
            "intermediate_size": hidden_width(backbone["mlp"], backbone["dim"]),
            "attention_bias": "out" in backbone["attention"]["bias"],
            "local_attention": 2 * (backbone["window"] - 1),
            "layer_types": write_types(backbone),
            "rope_parameters": _rope_parameters(at(ours, f"{GLOBAL}.base"), at(ours, f"{LOCAL}.base")),
            BASES[FULL]: at(ours, f"{GLOBAL}.base"),
            BASES[SLIDING]: at(ours, f"{LOCAL}.base"),
            "max_position_embeddings": at(ours, "modality.text.context") or specs["text"].max_length,
            "vocab_size": ids.num_classes,
            "classifier_pooling": "mean" if "Mean" in classify.get("pool", {}).get("_target_", "") else "cls",
            "architectures": [kind],
            **labels_of(specs),
        }

    def links(self, config: Config) -> list[Link]:
        has_norm_bias, head = config["norm_bias"], config["architectures"][0]
        links = [same(TEXT, "model.embeddings.tok_embeddings.weight")]
        links += _linked("model.backbone.input_norm", "model.embeddings.norm", has_norm_bias)
        links += _linked("model.backbone.final_norm", "model.final_norm", has_norm_bias)
        for layer in range(config["num_hidden_layers"]):
            links += _block(config, f"model.backbone.blocks.{layer}", f"model.layers.{layer}", is_first=layer == 0)
        if head == self.body:
            return links
        here = "objectives.masked_token.transform" if head == self.masked else "objectives.classify.pooler"
        links += _linked(f"{here}.0", "head.dense", config["classifier_bias"])
        links += _linked(f"{here}.2", "head.norm", has_norm_bias)
        if head == self.masked:
            return [*links, same("objectives.masked_token.bias", "decoder.bias")]
        return links + _linked("objectives.classify.head", "classifier", True)


def _linked(ours: str, theirs: str, bias: bool) -> list[Link]:
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", *(["bias"] if bias else []))]


def _block(config: Config, ours: str, theirs: str, *, is_first: bool) -> list[Link]:
    """A layer, the first of which has no norm before attention."""
    links = [] if is_first else _linked(f"{ours}.attention_norm", f"{theirs}.attn_norm", config["norm_bias"])
    links += _linked(f"{ours}.mlp_norm", f"{theirs}.mlp_norm", config["norm_bias"])
    links.append(same(f"{ours}.attention.qkv.weight", f"{theirs}.attn.Wqkv.weight"))
    if config["attention_bias"]:
        links.append(cut([f"{ours}.attention.biases.{part}" for part in PARTS], f"{theirs}.attn.Wqkv.bias"))
    links += _linked(f"{ours}.attention.out", f"{theirs}.attn.Wo", config["attention_bias"])
    links += _linked(f"{ours}.mlp.up", f"{theirs}.mlp.Wi", config["mlp_bias"])
    return links + _linked(f"{ours}.mlp.down", f"{theirs}.mlp.Wo", config["mlp_bias"])


def _transform(config: Config) -> dict[str, Any]:
    """The linear map, activation and normalisation of a head."""
    biases = {"linear": config["classifier_bias"], "norm": config["norm_bias"]}
    return {
        "activation": activation(config["classifier_activation"]),
        "norm_eps": config["norm_eps"],
        "biases": [name for name, has in biases.items() if has],
    }


def _head_keys(head: Mapping[str, Any]) -> Config:
    """The inverse of `_transform`."""
    if not head:
        return {}
    has_bias = head.get("biases") is None or "linear" in head["biases"]
    return {"classifier_bias": has_bias, "classifier_activation": activation_name(head["activation"])}


def _with_bases(config: Config) -> Config:
    """The config with the bases of both kinds of layers in either spelling, of which the newer goes before.

    Raises:
        UserError: for positions that are scaled, or of other kinds of layers.
    """
    config = dict(config)
    given = config["rope_parameters"] or {}
    for kind, parameters in given.items():
        if kind not in BASES:
            raise UserError(f"rope_parameters has {kind}; mmtx reads {', '.join(BASES)}")
        own = {key: value for key, value in (parameters or {}).items() if value is not None}
        config[BASES[kind]] = own.pop("rope_theta", config[BASES[kind]])
        if own not in ({}, {"rope_type": "default"}):
            raise UserError(f"rope_parameters of {kind}: {own}; mmtx turns heads of this family by default")
    return {**config, "rope_parameters": _rope_parameters(config[BASES[FULL]], config[BASES[SLIDING]])}


def _rope_parameters(everywhere: float, local: float) -> Config:
    return {kind: {"rope_type": "default", "rope_theta": base} for kind, base in ((FULL, everywhere), (SLIDING, local))}
