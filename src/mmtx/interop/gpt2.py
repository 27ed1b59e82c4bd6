"""GPT-2 (Radford et al. 2019), as `transformers` stores it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Keys, as_in, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SUPPRESSED, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, end_ids, head_outputs, text_batch
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.links import PARTS, Link, Weights, both, cut, same, transposed
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken


def body_links(num_layers: int, there: str) -> list[Link]:
    """Links of the blocks and the final norm; GPT-2 stores its linear maps transposed."""
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


BODY_KEYS: Keys = {
    **NO_CLASSES,
    **DECODER_FLAGS,
    **encoder_decoder(False),
    "n_layer": used("layers", 12),
    "n_head": used("heads", 12),
    "n_inner": used("width of the feed-forward half; null: 4 times that of the model", None),
    "n_positions": used("context", 1024),
    "n_ctx": as_in("n_positions", "the context once more"),
    "activation_function": used("activation", "gelu_new"),
    "layer_norm_epsilon": used("normalisation", 1e-5),
    "resid_pdrop": used("dropout", 0.1),
    "embd_pdrop": as_in("resid_pdrop", "dropout of embeddings; mmtx has one for both", 0.1),
    "attn_pdrop": used("dropout of attention", 0.1),
    "initializer_range": used("new weights", 0.02),
    "scale_attn_weights": used("attention", True),
    "scale_attn_by_inverse_layer_idx": only(False, note="attention scaled by layer"),
    "reorder_and_upcast_attn": harmless("precision of attention in half-precision training"),
    "n_special": only(0, note="ids beside the vocabulary"),
    "predict_special_tokens": harmless("of the first versions; nothing reads it any more"),
    **every(
        "summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout",
        harmless("the head of GPT2DoubleHeadsModel, which is refused"),
    ),
}
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
    kinds = ("GPT2LMHeadModel", "GPT2Model")
    keys: ClassVar[Keys] = {
        **BODY_KEYS,
        "n_embd": used("width", 768),
        "vocab_size": used("ids", 50257),
        "eos_token_id": used("ends a text; one id or several", 50256),
        "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", True),
    }
    generation: ClassVar[Keys] = {
        **WRITING,
        **SUPPRESSED,
        "decoder_start_token_id": harmless("of models that read one text and write another"),
    }
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    vocabularies = ("data/vocabulary",)
    same = {**BODY_SAME, "backbone.dim": "n_embd", "modality.text.context": "n_positions"}
    renames = ((r"^(?=wte|wpe|h\.|ln_f)", "transformer."),)
    unused = UNUSED
    added = {"text": ("model.position_embeddings.text.table.weight",)}

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        return {**config, "tie_word_embeddings": tie(weights, "transformer.wte.weight", config["tie_word_embeddings"])}

    def describe(self, config: Config, files: Files) -> Described:
        size, dim = config["vocab_size"], config["n_embd"]
        vocabulary = files.decoder_vocabulary(config)
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
            "eos_token_id": end_ids(vocabulary),
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
        return head_outputs(learner, NextToken, hidden, config["architectures"] == [self.body])


def tie(weights: Weights, embedding: str, declared: bool) -> bool:
    """Whether the head is tied to the embedding: the weights override what the config has `declared`. A tied
    ``lm_head.weight`` is removed from the weights, or taken as the embedding where that is missing.

    Raises:
        UserError: each has its own, and the file lacks the head's.
    """
    head = weights.get("lm_head.weight")
    if head is None:
        if not declared:
            raise UserError("tie_word_embeddings=False, but lm_head.weight is missing: the head has no weights")
        return True
    if declared and torch.equal(weights.setdefault(embedding, head), head):
        del weights["lm_head.weight"]
        return True
    return False
