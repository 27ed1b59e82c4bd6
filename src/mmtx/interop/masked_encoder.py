"""What encoders of texts share that are trained on masked ids: a head for these, a head for classes, or none."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Field, Spec, Vocabulary
from mmtx.errors import UserError
from mmtx.interop.class_labels import check_classes, label_spec
from mmtx.interop.family import Config, Family, Files, text_batch
from mmtx.interop.links import Weights
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify
from mmtx.objectives.masked_token import MaskedToken


class MaskedEncoder(Family):
    """An encoder of texts. A family has its architectures, its marks, and its links."""

    masked: ClassVar[str]
    """Its architecture with a head for masked ids."""
    classes: ClassVar[str]
    """Its architecture with a head for classes."""
    heads: ClassVar[Mapping[str, str]]
    """``{architecture: prefix of weights that it has}``, of which the first that is in a file is the file's."""
    marks: ClassVar[Mapping[str, str]]
    """``{role: usual spelling}`` of the marks that begin and end a text, and of the mask."""
    vocabularies = ("data/vocabulary",)

    def complete(self, config: Config, weights: Weights) -> Config:
        config = super().complete(config, weights)
        (declared,) = config["architectures"]
        has = (kind for kind, head in self.heads.items() if any(key.startswith(f"{head}.") for key in weights))
        kind = next(has, self.body)
        if kind == self.body != declared:
            head = self.heads[declared]
            raise UserError(f"this {declared} lacks its head: {head} is missing; without one it is a {self.body}")
        if kind == self.masked and not config["tie_word_embeddings"]:
            _check_heads(weights, self.copies)
        if kind == self.classes:
            rows = len(weights["classifier.weight" if "classifier.weight" in weights else "classifier.out_proj.weight"])
            check_classes({**config, "architectures": [kind]}, rows)
            config["num_labels"] = rows
        return {**config, "architectures": [kind]}

    def specs(self, config: Config, files: Files, longest: int) -> dict[str, Spec]:
        """Those of its data: texts, and classes where none is masked."""
        size, (begin, end, _) = config["vocab_size"], (files.mark(*mark) for mark in self.marks.items())
        ids = Field((None,), torch.long, size, longest)
        specs = {"text": Spec({"ids": ids}, vocabulary=files.vocabulary(size=size, begin=begin, end=end))}
        kind = config["architectures"][0]
        if kind != self.masked:
            specs["label"] = label_spec(config, config["num_labels"] if kind == self.classes else None)
        return specs

    def mask(self, config: Config, files: Files, usual: int) -> int:
        """Id of the mask; without a tokenizer, the usual one. Raises UserError where the tokenizer has none."""
        role, spelling = list(self.marks.items())[2]
        found = files.mark(role, spelling) if files.tokenizer is not None else min(usual, config["vocab_size"] - 1)
        if found is None:
            raise UserError(
                f"this {self.name} predicts masked ids, and its tokenizer has no token {spelling}; name it as {role}"
            )
        return found

    def roles(self, config: Config, vocabulary: Vocabulary, learner: Learner) -> dict[str, int | None]:
        begin, end, mask = self.marks
        own: dict[str, int | None] = {begin: vocabulary.begin, end: vocabulary.end}
        if "masked_token" in learner.objectives:
            objective = learner.objective("masked_token")
            assert isinstance(objective, MaskedToken)
            own[mask] = objective.mask
        return {**super().roles(config, vocabulary, learner), **own}

    def example(self, config: Config) -> dict[str, Tensor]:
        return {"input_ids": torch.zeros(2, min(8, config["max_position_embeddings"]), dtype=torch.long)}

    def forward(self, learner: Learner, config: Config, **inputs: Any) -> dict[str, Tensor]:
        states = learner.model(text_batch("text", inputs["input_ids"], inputs.get("attention_mask")))
        hidden, kind = states.tokens("text"), config["architectures"][0]
        if kind == self.masked:
            masked = learner.objective("masked_token")
            assert isinstance(masked, MaskedToken)
            return {"logits": masked.logits(learner.model, hidden)}
        classify = learner.objective("classify")
        assert isinstance(classify, Classify)
        if kind == self.classes:
            return {"logits": classify.head(classify.pooled(states))}
        pooled = {"pooler_output": classify.pooled(states)} if config.get("add_pooling_layer") else {}
        return {"last_hidden_state": hidden, **pooled}


def _check_heads(weights: Weights, copies: Mapping[str, str]) -> None:
    """Raises UserError where a file lacks a head that its config does not tie."""
    missing = [key for key in copies if key not in weights]
    if missing:
        raise UserError(f"tie_word_embeddings=False: this model lacks its head, {missing[0]}")
