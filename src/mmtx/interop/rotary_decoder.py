"""What Llama and its relatives share: pre-norm decoders with RMS norms, rotary positions, gated feed-forward halves."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Keys, harmless, used
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SUPPRESSED, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, head_outputs, one_id, text_batch
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.gpt2 import tie, within
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
    "eos_token_id": used("ends a text; one id", 2),
    "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", False),
    "pretraining_tp": harmless("how the same numbers are computed"),
}


class RotaryDecoder(Family):
    """A decoder of Llama's kind. A family has its keys and what it has beside them."""

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
    renames = ((r"^(?=embed_tokens\.|layers\.|norm\.)", "model."),)
    unused = r"rotary_emb\.inv_freq$"

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
        config = with_one_spelling(super().complete(config, weights))
        is_body = config["architectures"] == [self.body]
        heads = config["num_attention_heads"]
        return {
            **config,
            "head_dim": config["head_dim"] or config["hidden_size"] // heads,
            "num_key_value_heads": config["num_key_value_heads"] or heads,
            "tie_word_embeddings": is_body or tie(weights, "model.embed_tokens.weight", config["tie_word_embeddings"]),
        }

    def describe(self, config: Config, files: Files) -> Described:
        size, end = config["vocab_size"], within(one_id(config, "eos_token_id"), config["vocab_size"])
        vocabulary = files.vocabulary(size=size, begin=None, end=end, prefix=files.prefix_ids())
        longest = config["max_position_embeddings"]
        scaling = config["rope_scaling"] or {}
        if scaling.get("rope_type") == "dynamic":  # which is for texts beyond the context
            longest = round(longest * scaling["factor"])
        values = self.from_same(config) | {
            **feed_forward(config[self.activation_key], config["intermediate_size"], config["hidden_size"]),
            **read_rope(config),
            **self.read_layers(config),
            "backbone.norm_place": self.norm_place,
            "backbone.mlp.bias": bool(config.get("mlp_bias")),
            "backbone.attention.bias": self._biases(config),
            "objective.next_token.tied": config["tie_word_embeddings"],
            "data.context": longest,
        }
        choices = ["data=text_file", "modality=[text]", "backbone=llama", "objective=[next_token]"]
        if self.qk_norm:
            choices.append("backbone/attention=qk_norm")
            values["backbone.attention.qk_norm.eps"] = config["rms_norm_eps"]
            values["backbone.attention.qk_norm_over"] = self.qk_norm
        ids = Field((None,), torch.long, size, longest)
        return Described(choices, values, {"text": Spec({"ids": ids}, vocabulary=vocabulary)})

    def read_layers(self, config: Config) -> dict[str, Any]:
        """The kinds of layers and their window, as `{path: value}`."""
        return {"backbone.layers": "G"}

    def write_layers(self, backbone: Mapping[str, Any]) -> Config:
        """The inverse of `read_layers`."""
        return {}

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        heads, attention = at(ours, "backbone.num_heads"), at(ours, "backbone.attention")
        rotary, vocabulary, ids = at(ours, PATH), specs["text"].vocabulary, specs["text"].fields["ids"]
        if rotary is None:
            raise KeyError(PATH)
        longest = at(ours, "modality.text.context") or specs["text"].max_length
        own = {
            "attention_bias": "out" in attention["bias"],
            "mlp_bias": at(ours, "backbone.mlp.bias"),
        }
        prefix = (vocabulary.state() if vocabulary else {}).get("prefix") or [None]
        return {
            **self.to_same(ours),
            **write_rope(rotary, longest),
            **self.write_layers(at(ours, "backbone")),
            **{key: value for key, value in own.items() if key in self.keys},
            "head_dim": attention["head_dim"] or at(ours, "backbone.dim") // heads,
            "num_key_value_heads": attention["num_kv_heads"] or heads,
            self.activation_key: activation_name(at(ours, "backbone.mlp.activation")),
            "intermediate_size": hidden_width(at(ours, "backbone.mlp"), at(ours, "backbone.dim")),
            "vocab_size": ids.num_classes,
            "eos_token_id": vocabulary.end if vocabulary else None,
            "bos_token_id": prefix[0],
            "tie_word_embeddings": at(ours, "objective.next_token.tied"),
        }

    def links(self, config: Config) -> list[Link]:
        links = [
            same("model.tokenizers.text.embedding.weight", "model.embed_tokens.weight"),
            self._norm("model.backbone.final_norm", "model.norm"),
        ]
        for layer in range(config["num_hidden_layers"]):
            links += self._block(config, f"model.backbone.blocks.{layer}", f"model.layers.{layer}")
        if not config["tie_word_embeddings"]:
            links.append(same("objectives.next_token.head.projection.weight", "lm_head.weight"))
        return links

    def _block(self, config: Config, ours: str, theirs: str) -> list[Link]:
        width = config["head_dim"]
        rows = [config[f"num_{kind}_heads"] * width for kind in ("attention", "key_value", "key_value")]
        query, key, value, out = (f"{theirs}.self_attn.{name}" for name in LINEARS.values())
        gate, up, down = (f"{theirs}.mlp.{name}_proj" for name in ("gate", "up", "down"))
        projections = [f"{name}.weight" for name in (query, key, value)]
        links = [
            stacked(f"{ours}.attention.qkv.weight", projections, rows),
            same(f"{ours}.attention.out.weight", f"{out}.weight"),
            stacked(f"{ours}.mlp.up.weight", [f"{gate}.weight", f"{up}.weight"]),
            same(f"{ours}.mlp.down.weight", f"{down}.weight"),
            *(self._norm(f"{ours}.{here}", f"{theirs}.{there}") for here, there in self.norms.items()),
        ]
        for name in self._biases(config):
            here = "out.bias" if name == "out" else f"biases.{name}"
            links.append(same(f"{ours}.attention.{here}", f"{theirs}.self_attn.{LINEARS[name]}.bias"))
        if config.get("mlp_bias"):
            links.append(stacked(f"{ours}.mlp.up.bias", [f"{gate}.bias", f"{up}.bias"]))
            links.append(same(f"{ours}.mlp.down.bias", f"{down}.bias"))
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
