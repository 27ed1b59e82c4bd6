"""Mamba 2 (Dao and Gu 2024, arXiv 2405.21060), as `transformers` stores it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.files.supported_keys import Key, Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import DECODER_FLAGS, NO_CLASSES, SUPPRESSED, WRITING, encoder_decoder
from mmtx.interop.family import Config, Described, Family, Files, at, end_ids, head_outputs, text_batch
from mmtx.interop.gpt2 import tie
from mmtx.interop.links import Link, Weights, same
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken

LONGEST = 2048
"""Most ids of a text, as many as it learnt from; a recurrence has no limit of its own."""

MIXER = {
    "into.weight": "in_proj.weight",
    "conv.conv.weight": "conv1d.weight",
    "conv.conv.bias": "conv1d.bias",
    "decay.bias": "dt_bias",
    "decay.log_rate": "A_log",
    "skip": "D",
    "norm.weight": "norm.weight",
    "out.weight": "out_proj.weight",
}
"""Weights of a mixer: ours, and what they are called there. Rows and features are in the same order."""


def _fills_the_heads(value: Any, config: Mapping[str, Any]) -> bool:
    return value is None or value * config["num_heads"] == config["expand"] * config["hidden_size"]


def _bounds_nothing(value: Any, config: Mapping[str, Any]) -> bool:
    """Infinity stands in files as such, or as the newer versions spell it."""
    return value is None or list(value) in ([0, math.inf], [0, {"__float__": "Infinity"}])


class Mamba2(Family):
    name = "mamba2"
    body = "Mamba2Model"
    prefix = "backbone."
    kinds = ("Mamba2ForCausalLM", "Mamba2Model")
    keys: ClassVar[Keys] = {
        **NO_CLASSES,
        **DECODER_FLAGS,
        **encoder_decoder(False),
        "vocab_size": used("ids", 32768),
        "hidden_size": used("width", 4096),
        "num_hidden_layers": used("layers", 64),
        "num_heads": used("heads", 128),
        "head_dim": Key("used", "features of a head", "`expand` * `hidden_size` / `num_heads`", _fills_the_heads, 64),
        "expand": used("features of all heads, as a multiple of the width", 2),
        "state_size": used("states of a feature", 128),
        "n_groups": used("groups of heads, which share what they write and read", 8),
        "chunk_size": used("tokens that are computed at once", 256),
        "initializer_range": used("new weights", 0.1),
        "layer_norm_epsilon": only(1e-5, note="normalisation, that of the mixer too"),
        "eos_token_id": used("ends a text; one id or several", 2),
        "tie_word_embeddings": used("whether the head is the embedding; a head that is in the file goes before", False),
        "conv_kernel": only(4, note="tokens that a convolution sees"),
        "use_conv_bias": only(True, note="whether the convolution has a bias"),
        "use_bias": only(False, note="biases of the other linear maps"),
        "hidden_act": only("silu", "swish", note="activation behind the convolution"),
        "time_step_limit": Key("harmless", "bounds of a step", "0 and infinity", _bounds_nothing),
        **every("time_step_min time_step_max time_step_floor", harmless("new weights")),
        "rescale_prenorm_residual": only(False, note="`transformers` divides the weights of a file each time it loads"),
        **every("time_step_rank norm_before_gate", harmless("of other versions; this one does not read it")),
        "rms_norm": only(True, note="whether the mixer's output is normalised"),
        "residual_in_fp32": harmless("precision of the residual stream in half-precision training"),
    }
    generation: ClassVar[Keys] = {
        **WRITING,
        **SUPPRESSED,
        "decoder_start_token_id": harmless("of models that read one text and write another"),
    }
    vocabularies = ("data/vocabulary",)
    same = {
        "backbone.dim": "hidden_size",
        "backbone.num_layers": "num_hidden_layers",
        "backbone.num_heads": "num_heads",
        "backbone.attention.expansion": "expand",
        "backbone.attention.state_dim": "state_size",
        "backbone.attention.num_groups": "n_groups",
        "backbone.attention.chunk_size": "chunk_size",
        "backbone.init_std": "initializer_range",
    }
    renames: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^(?=embeddings?\.|layers\.|norm_f\.)", "backbone."),
        (r"^backbone\.embedding\.", "backbone.embeddings."),
    )

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        is_body = config["architectures"] == [self.body]
        tied = is_body or tie(weights, "backbone.embeddings.weight", config["tie_word_embeddings"])
        return {**config, "tie_word_embeddings": tied}

    def describe(self, config: Config, files: Files) -> Described:
        values = self.from_same(config) | {
            "objective.next_token.tied": config["tie_word_embeddings"],
            "data.context": LONGEST,
        }
        choices = ["data=text_file", "modality=[text]", "backbone=mamba2", "objective=[next_token]"]
        ids = Field((None,), torch.long, config["vocab_size"], LONGEST)
        return Described(choices, values, {"text": Spec({"ids": ids}, vocabulary=files.decoder_vocabulary(config))})

    def config(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        theirs, vocabulary = self.to_same(ours), specs["text"].vocabulary
        features = theirs["expand"] * theirs["hidden_size"]
        if theirs["expand"] % 1 or features % theirs["num_heads"]:
            raise UserError(f"backbone.attention.expansion={theirs['expand']}, there a whole number")
        prefix = (vocabulary.state() if vocabulary else {}).get("prefix") or [None]
        return {
            **theirs,
            "expand": int(theirs["expand"]),
            "head_dim": int(features) // theirs["num_heads"],
            "vocab_size": specs["text"].fields["ids"].num_classes,
            "eos_token_id": end_ids(vocabulary),
            "bos_token_id": prefix[0],
            "tie_word_embeddings": at(ours, "objective.next_token.tied"),
        }

    def links(self, config: Config) -> list[Link]:
        links = [
            same("model.tokenizers.text.embedding.weight", "backbone.embeddings.weight"),
            same("model.backbone.final_norm.weight", "backbone.norm_f.weight"),
        ]
        for layer in range(config["num_hidden_layers"]):
            ours, theirs = f"model.backbone.blocks.{layer}", f"backbone.layers.{layer}"
            links.append(same(f"{ours}.mixer_norm.weight", f"{theirs}.norm.weight"))
            links += [same(f"{ours}.mixer.{here}", f"{theirs}.mixer.{there}") for here, there in MIXER.items()]
        if not config["tie_word_embeddings"]:
            links.append(same("objectives.next_token.head.projection.weight", "lm_head.weight"))
        return links

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(2, 8, dtype=torch.long)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        hidden = learner.model(text_batch("text", inputs["input_ids"], inputs.get("attention_mask"))).tokens("text")
        return head_outputs(learner, NextToken, hidden, config["architectures"] == [self.body])
