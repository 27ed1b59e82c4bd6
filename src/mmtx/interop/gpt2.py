"""GPT-2 (Radford et al. 2019), as `transformers` stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.interop.family import (
    Config,
    Described,
    Family,
    Files,
    activation_name,
    at,
    feed_forward,
    hidden_width,
    text_batch,
)
from mmtx.interop.links import PARTS, Link, Weights, both, cut, same, transposed
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken


def body_links(num_layers: int, there: str) -> list[Link]:
    """The blocks and the last normalisation; its linear maps are stored the other way round."""
    links = both("model.backbone.final_norm", f"{there}ln_f")
    for layer in range(num_layers):
        block, h = f"model.backbone.blocks.{layer}", f"{there}h.{layer}"
        links += [
            transposed(f"{block}.attention.qkv.weight", f"{h}.attn.c_attn.weight"),
            cut([f"{block}.attention.biases.{part}" for part in PARTS], f"{h}.attn.c_attn.bias"),
        ]
        linears = {"attention.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
        for here, name in linears.items():
            links.append(transposed(f"{block}.{here}.weight", f"{h}.{name}.weight"))
            links.append(same(f"{block}.{here}.bias", f"{h}.{name}.bias"))
        links += both(f"{block}.attention_norm", f"{h}.ln_1") + both(f"{block}.mlp_norm", f"{h}.ln_2")
    return links


BODY_DEFAULTS: Config = {
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "n_positions": 1024,
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "initializer_range": 0.02,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
BODY_FIXED: Config = {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
BODY_SAME = {
    "backbone.num_layers": "n_layer",
    "backbone.num_heads": "n_head",
    "backbone.norm.eps": "layer_norm_epsilon",
    "backbone.dropout": "resid_pdrop",
    "backbone.attention.dropout": "attn_pdrop",
    "backbone.attention.scale": "scale_attn_weights",
    "backbone.init_std": "initializer_range",
}
UNUSED = r"attn\.(bias|masked_bias)$"


class GPT2(Family):
    name = "gpt2"
    body = "GPT2Model"
    prefix = "transformer."
    defaults = {
        **BODY_DEFAULTS,
        "n_embd": 768,
        "vocab_size": 50257,
        "activation_function": "gelu_new",
        "eos_token_id": 50256,
        "tie_word_embeddings": True,
        "architectures": ["GPT2LMHeadModel"],
    }
    fixed = BODY_FIXED
    same = {**BODY_SAME, "backbone.dim": "n_embd", "modality.text.context": "n_positions"}
    renames = ((r"^(?=wte|wpe|h\.|ln_f)", "transformer."),)
    unused = UNUSED
    added = {"text": ("model.position_embeddings.text.table.weight",)}

    def canonical(self, weights: Weights) -> Weights:
        weights = super().canonical(weights)
        head, own = weights.get("lm_head.weight"), weights.get("transformer.wte.weight")
        if head is not None and own is not None and torch.equal(head, own):
            del weights["lm_head.weight"]
        return weights

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        return {**config, "tie_word_embeddings": "lm_head.weight" not in weights}

    def describe(self, config: Config, files: Files) -> Described:
        size, dim = config["vocab_size"], config["n_embd"]
        vocabulary = files.vocabulary(size=size, begin=None, end=_within(config["eos_token_id"], size))
        values = self.from_same(config) | {
            **feed_forward(config["activation_function"], config["n_inner"] or 4 * dim, dim),
            "objective.next_token.tied": config["tie_word_embeddings"],
            "data.context": config["n_positions"],
        }
        ids = Field((None,), torch.long, size, config["n_positions"])
        choices = ["data=text_file", "modality=[text]", "backbone=gpt2", "objective=[next_token]"]
        return Described(choices, values, {"text": Spec({"ids": ids}, vocabulary=vocabulary)})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        dim, vocabulary = at(ours, "backbone.dim"), specs["text"].vocabulary
        context = at(ours, "modality.text.context") or specs["text"].fields["ids"].max_length
        return self.to_same(ours) | {
            "activation_function": activation_name(at(ours, "backbone.mlp.activation")),
            "n_inner": hidden_width(at(ours, "backbone.mlp"), dim),
            "n_positions": context,
            "vocab_size": specs["text"].fields["ids"].num_classes,
            "embd_pdrop": at(ours, "backbone.dropout"),
            "eos_token_id": vocabulary.end if vocabulary else None,
            "bos_token_id": vocabulary.end if vocabulary else None,
            "tie_word_embeddings": at(ours, "objective.next_token.tied"),
        }

    def links(self, config: Config) -> list[Link]:
        links = [
            same("model.tokenizers.text.embedding.weight", "transformer.wte.weight"),
            same("model.position_embeddings.text.table.weight", "transformer.wpe.weight"),
            *body_links(config["n_layer"], "transformer."),
        ]
        if not config["tie_word_embeddings"]:
            links.append(same("objectives.next_token.head.projection.weight", "lm_head.weight"))
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(2, min(8, config["n_positions"]), dtype=torch.long)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        hidden = learner.model(text_batch("text", inputs["input_ids"], inputs.get("attention_mask"))).tokens("text")
        if config["architectures"] == [self.body]:
            return {"last_hidden_state": hidden}
        objective = learner.objective("next_token")
        assert isinstance(objective, NextToken)
        return {"logits": objective.head.logits(learner.model, hidden)}


def _within(number: Any, size: int) -> int | None:
    """An id, if it is one of the vocabulary: small models keep the numbers of large ones."""
    return number if isinstance(number, int) and 0 <= number < size else None
