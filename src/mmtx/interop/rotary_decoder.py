"""What Llama and its relatives share: pre-norm decoders with RMS norms, rotary positions, gated feed-forward halves."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Keys, harmless, used
from mmtx.data.text.sentence_pieces import SentencePieces
from mmtx.errors import UserError
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SUPPRESSED, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, end_ids, head_outputs, text_batch
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.gpt2 import tie
from mmtx.interop.links import Link, Weights, one_more, same, stacked
from mmtx.interop.rope import PATH, read_rope, rope_keys, with_one_spelling, write_rope
from mmtx.learner import Learner
from mmtx.nn.attention import NormalisedWidth
from mmtx.nn.block import NormPlace
from mmtx.objectives.next_token import NextToken

LINEARS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}

DECODER_KEYS: Keys = {
    **NO_CLASSES,
    **DECODER_FLAGS,
    **encoder_decoder(False),
    **rope_keys(10000.0),
    "vocab_size": used("ids", 32000),
    "hidden_size": used("width", 4096),
    "intermediate_size": used("width of the feed-forward half", 11008),
    "num_hidden_layers": used("layers", 32),
    "num_attention_heads": used("heads", 32),
    "num_key_value_heads": used("heads of keys and values; null: as many", None),
    "head_dim": used("width of a head; null: that of the model over its heads", None),
    "hidden_act": used("activation of the gate", "silu"),
    "max_position_embeddings": used("context", 2048),
    "rms_norm_eps": used("normalisation", 1e-6),
    "attention_dropout": used("dropout of attention", 0.0),
    "initializer_range": used("new weights", 0.02),
    "eos_token_id": used("ends a text; one id or several", 2),
    "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", False),
    "pretraining_tp": harmless("how the same numbers are computed"),
}


class RotaryDecoder(Family):
    """A decoder of Llama's kind. A family has its keys and what it has beside them."""

    backbone = "llama"
    prefix = "model."
    generation: ClassVar[Keys] = {
        **WRITING,
        **SUPPRESSED,
        "decoder_start_token_id": harmless("of models that read one text and write another"),
    }
    nullable: ClassVar[Sequence[str]] = ("num_key_value_heads", "head_dim")
    vocabularies = ("data/vocabulary",)
    same = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_attention_heads",
        "backbone.norm.eps": "rms_norm_eps",
        "backbone.attention.num_kv_heads": "num_key_value_heads",
        "backbone.attention.head_dim": "head_dim",
        "backbone.attention.dropout": "attention_dropout",
        "backbone.init_std": "initializer_range",
    }
    renames: ClassVar[Sequence[tuple[str, str]]] = ((r"^(?=embed_tokens\.|layers\.|norm\.)", "model."),)
    unused = r"rotary_emb\.inv_freq$"

    choices: ClassVar[Sequence[str]] = ()
    """Options of groups, beside those of Llama."""
    biases: ClassVar[Sequence[str]] = ()
    """Of the linear maps of attention, where the config has no ``attention_bias``."""
    qk_norm: ClassVar[NormalisedWidth | None] = None
    """What queries and keys are normalised over; None: they are not."""
    norm_place: ClassVar[NormPlace] = "before"
    norms: ClassVar[Mapping[str, str]] = {
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    }
    """Of a block: ours, and what they are called there."""
    norm_adds_one: ClassVar[bool] = False
    """Whether a norm multiplies by one more than its weight."""
    activation_key: ClassVar[str] = "hidden_act"

    def complete(self, config: Config, weights: Weights) -> Config:
        config = self.settled(config)
        is_body = config["architectures"] == [self.body]
        tied = is_body or tie(weights, "model.embed_tokens.weight", config["tie_word_embeddings"])
        return {**config, "tie_word_embeddings": tied}

    def settled(self, config: Config) -> Config:
        """The config with all missing keys, but for whether the head is tied, which the weights decide."""
        config = with_one_spelling(super().complete(config, {}))
        heads = config["num_attention_heads"]
        return {
            **config,
            "head_dim": config["head_dim"] or config["hidden_size"] // heads,
            "num_key_value_heads": config["num_key_value_heads"] or heads,
        }

    def describe(self, config: Config, files: Files) -> Described:
        """Raises UserError for a tokenizer that does not have the marks of this kind's texts."""
        if isinstance(files.tokenizer, SentencePieces):
            raise UserError(
                f"{files.folder} has its tokenizer as a model of SentencePiece alone, without the marks around a text; "
                f"save a tokenizer.json beside it (transformers: AutoTokenizer, save_pretrained)"
            )
        longest = config["max_position_embeddings"]
        scaling = config["rope_scaling"] or {}
        if scaling.get("rope_type") == "dynamic":  # which is for texts beyond the context
            longest = round(longest * scaling["factor"])
        values = self.from_same(config) | {
            **read_rope(config),
            **self.read_layers(config),
            **self.read_feed_forward(config),
            "backbone.norm_place": self.norm_place,
            "backbone.attention.bias": self._biases(config),
            "objective.next_token.tied": config["tie_word_embeddings"],
            "data.context": longest,
        }
        objectives = ",".join(self.objectives(config))
        choices = ["data=text_file", "modality=[text]", "backbone=llama", f"objective=[{objectives}]", *self.choices]
        if self.qk_norm:
            choices.append("backbone/attention=qk_norm")
            values["backbone.attention.qk_norm.eps"] = config["rms_norm_eps"]
            values["backbone.attention.qk_norm_over"] = self.qk_norm
        ids = Field((None,), torch.long, config["vocab_size"], longest)
        return Described(choices, values, {"text": Spec({"ids": ids}, vocabulary=files.decoder_vocabulary(config))})

    def read_layers(self, config: Config) -> dict[str, Any]:
        """The kinds of layers and their window, as `{path: value}`."""
        return {"backbone.layers": "G"}

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        """The inverse of `read_layers`."""
        return {}

    def objectives(self, config: Config) -> list[str]:
        """What is learnt."""
        return ["next_token"]

    def read_feed_forward(self, config: Config) -> dict[str, Any]:
        """The feed-forward half, as `{path: value}`."""
        half = feed_forward(config[self.activation_key], config["intermediate_size"], config["hidden_size"])
        return {**half, "backbone.mlp.bias": bool(config.get("mlp_bias"))}

    def write_feed_forward(self, ours: Mapping[str, Any]) -> Config:
        """The inverse of `read_feed_forward`."""
        half = at(ours, "backbone.mlp")
        own = {"mlp_bias": half["bias"]} if "mlp_bias" in self.keys else {}
        width = hidden_width(half, at(ours, "backbone.dim"))
        return {**own, self.activation_key: activation_name(half["activation"]), "intermediate_size": width}

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        heads, attention = at(ours, "backbone.num_heads"), at(ours, "backbone.attention")
        rotary, vocabulary, ids = at(ours, PATH), specs["text"].vocabulary, specs["text"].fields["ids"]
        if rotary is None:
            raise KeyError(PATH)
        longest = at(ours, "modality.text.context") or specs["text"].max_length
        own = {"attention_bias": "out" in attention["bias"]} if "attention_bias" in self.keys else {}
        prefix = (vocabulary.state() if vocabulary else {}).get("prefix") or [None]
        return {
            **self.to_same(ours),
            **write_rope(rotary, longest),
            **self.write_layers(at(ours, "backbone")),
            **self.write_feed_forward(ours),
            **own,
            "head_dim": attention["head_dim"] or at(ours, "backbone.dim") // heads,
            "num_key_value_heads": attention["num_kv_heads"] or heads,
            "vocab_size": ids.num_classes,
            "eos_token_id": end_ids(vocabulary),
            "bos_token_id": prefix[0],
            "tie_word_embeddings": at(ours, "objective.next_token.tied"),
        }

    def links(self, config: Config) -> list[Link]:
        links = [
            same("model.tokenizers.text.embedding.weight", "model.embed_tokens.weight"),
            self._norm("model.backbone.final_norm", "model.norm"),
        ]
        for layer in range(config["num_hidden_layers"]):
            ours, theirs = f"model.backbone.blocks.{layer}", f"model.layers.{layer}"
            links += self._mixer(config, ours, theirs) + self.feed_forward_links(config, ours, theirs, layer)
            links += [self._norm(f"{ours}.{here}", f"{theirs}.{there}") for here, there in self.norms.items()]
        if not config["tie_word_embeddings"]:
            links.append(same("objectives.next_token.head.projection.weight", "lm_head.weight"))
        return links

    def feed_forward_links(self, config: Config, ours: str, theirs: str, layer: int) -> list[Link]:
        """Of a layer's feed-forward half, by the prefixes of its block."""
        gate, up, down = (f"{theirs}.mlp.{name}_proj" for name in ("gate", "up", "down"))
        links = [
            stacked(f"{ours}.mlp.up.weight", [f"{gate}.weight", f"{up}.weight"]),
            same(f"{ours}.mlp.down.weight", f"{down}.weight"),
        ]
        if config.get("mlp_bias"):
            links.append(stacked(f"{ours}.mlp.up.bias", [f"{gate}.bias", f"{up}.bias"]))
            links.append(same(f"{ours}.mlp.down.bias", f"{down}.bias"))
        return links

    def _mixer(self, config: Config, ours: str, theirs: str) -> list[Link]:
        width = config["head_dim"]
        rows = [config[f"num_{kind}_heads"] * width for kind in ("attention", "key_value", "key_value")]
        query, key, value, out = (f"{theirs}.self_attn.{name}" for name in LINEARS.values())
        projections = [f"{name}.weight" for name in (query, key, value)]
        links = [
            stacked(f"{ours}.attention.qkv.weight", projections, rows),
            same(f"{ours}.attention.out.weight", f"{out}.weight"),
        ]
        for name in self._biases(config):
            here = "out.bias" if name == "out" else f"biases.{name}"
            links.append(same(f"{ours}.attention.{here}", f"{theirs}.self_attn.{LINEARS[name]}.bias"))
        if self.qk_norm:
            norms = (("query_norm", "q_norm"), ("key_norm", "k_norm"))
            links += [self._norm(f"{ours}.attention.{a}", f"{theirs}.self_attn.{b}") for a, b in norms]
        return links

    def _norm(self, ours: str, theirs: str) -> Link:
        return (one_more if self.norm_adds_one else same)(f"{ours}.weight", f"{theirs}.weight")

    def _biases(self, config: Config) -> list[str]:
        return list(LINEARS) if config.get("attention_bias") else list(self.biases)

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(2, min(8, config["max_position_embeddings"]), dtype=torch.long)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        hidden = learner.model(text_batch("text", inputs["input_ids"], inputs.get("attention_mask"))).tokens("text")
        return head_outputs(learner, NextToken, hidden, config["architectures"] == [self.body])
