"""Masked-token prediction."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.nn.linear_cross_entropy import IGNORED, Predictions, linear_cross_entropy
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.predictions import IDS, TEXTS, id_scores
from mmtx.objectives.transform import Biased, Transform


class MaskedToken(Objective):
    """Some ids of a bidirectional text are masked and predicted (Devlin et al. 2018, arXiv 1810.04805).

    Of the chosen ids, eight in ten become the mask, one in ten another id, one stays. In evaluation the same are chosen
    every time. The head is a linear map, an activation, a normalisation, and the text's own embedding.

    Args:
        text: name whose ids are predicted.
        mask: the mask's id.
        share: of a text's ids that are chosen; at least one, and never its begin or end.
        activation: of the head.
        norm_eps: of the head's normalisation.
        biases: which of the head's ``linear`` map and ``norm`` have a bias (ModernBERT: none); None: both.
    """

    directions = known("perplexity", "accuracy")
    roles = {"bias": "bias"}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        mask: int,
        share: float,
        activation: nn.Module,
        norm_eps: float,
        biases: list[Biased] | None = None,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__(weight=weight)
        required_name(text, model.names, "modality of the set", "text")
        tokenizer = model.tokenizer(text)
        if not isinstance(tokenizer, Ids) or tokenizer.causal:
            raise InvalidValue("text", text, "must name a bidirectional text", f"modality.{text}.causal=false")
        if not 0 <= mask < tokenizer.vocab_size:
            raise InvalidValue("mask", mask, f"must be an id of 0..{tokenizer.vocab_size - 1}")
        if not 0 < share <= 1:
            raise InvalidValue("share", share, "must lie in (0, 1]")
        self.text, self.reads, self.width_ratio = text, (text,), model.backbone.width_ratio
        self.mask, self.share, self.vocab_size = mask, share, tokenizer.vocab_size
        self.vocabulary = required_spec(text, specs, "text").vocabulary
        dim = model.backbone.dim
        self.transform = Transform(dim, activation=activation, norm_eps=norm_eps, biases=biases)
        self.coded = {"bias": text}
        self.bias = nn.Parameter(torch.zeros(tokenizer.vocab_size))
        initialise(self.transform, std=model.backbone.init_std)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with some ids hidden: ``chosen`` in another field, and all as they were in ``targets``."""
        drawn_by = generator if self.training else None
        ids, chosen = batch[self.text]["ids"], self._choose(self._may_be_chosen(batch), drawn_by)
        return batch.with_values(self.text, ids=self._hide(ids, chosen, drawn_by), chosen=chosen, targets=ids)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch[self.text]["chosen"].sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        count, hidden = self.count(batch), model(batch).tokens(self.text)
        loss, right = self._loss(model, hidden, batch[self.text]["targets"], batch[self.text]["chosen"])
        assert right is not None
        return Score(loss, count, {"accuracy": (right.sum(), count)})

    def _loss(
        self,
        model: MultimodalTransformer,
        hidden: Float[Tensor, "B n D"],
        targets: Int[Tensor, "B n"],
        chosen: Bool[Tensor, "B n"],
    ) -> Predictions:
        return linear_cross_entropy(
            self._transformed(hidden),
            self.tied_vectors(model),
            self.bias,
            targets.masked_fill(~chosen, IGNORED),
            find_right=True,
            compile=model.backbone.is_compiled,
        )

    def metrics(self, score: Score) -> dict[str, float]:
        loss = score.mean_loss()
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": score.ratio("accuracy")}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        ids, chosen = batch[self.text]["ids"], self._choose(self._may_be_chosen(batch), None)
        inputs = batch.with_values(self.text, ids=ids.masked_fill(chosen, self.mask))
        hidden, best = model(inputs).tokens(self.text), ids.clone()
        for row, states in enumerate(hidden):  # one by one, as scores of all samples would take much memory
            best[row] = self.logits(model, states).argmax(-1)
        filled, lengths = torch.where(chosen, best, ids).tolist(), batch.lengths[self.text].tolist()
        return [
            Example(self._decode(row[:n]), self._decode(true[:n]), row[:n] == true[:n] if n else None)
            for row, true, n in zip(filled, ids.tolist(), lengths, strict=True)
        ]

    columns: Mapping[str, Any] = {**TEXTS, **IDS}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """Each text with its chosen ids filled in, the true one, and how well the chosen ids are predicted."""
        chosen, targets, lengths = batch[self.text]["chosen"], batch[self.text]["targets"], batch.lengths[self.text]
        filled, rows = targets.clone(), []
        for row, states in enumerate(model(batch).tokens(self.text)):  # one by one: scores take much memory
            rows.append(self._loss(model, states[None], targets[row][None], chosen[row][None]))
            filled[row] = torch.where(chosen[row], self.logits(model, states).argmax(-1), targets[row])
        texts = zip(filled.tolist(), targets.tolist(), lengths.tolist(), strict=True)
        both = [(self._decode(row[:n]), self._decode(true[:n])) if n else (None, None) for row, true, n in texts]
        columns = {"predicted": [each for each, _ in both], "truth": [each for _, each in both]}
        return columns | id_scores(rows, chosen)

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of every id at every id of the text, ``(B, n, ids)``; those to be predicted are given as masks."""
        return {"logits": self.logits(model, model(batch).tokens(self.text)).float()}

    def logits(self, model: MultimodalTransformer, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of every id at every token."""
        return F.linear(self._transformed(hidden), self.tied_vectors(model)) + self.bias

    def _transformed(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        hidden = self.transform(hidden)
        return hidden if self.width_ratio == 1 else hidden / self.width_ratio

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"]:
        """The text's own, which score ids."""
        tokenizer = model.tokenizer(self.text)
        assert isinstance(tokenizer, Ids)
        return tokenizer.id_vectors

    def _may_be_chosen(self, batch: Batch) -> Bool[Tensor, "B n"]:
        ids, lengths = batch[self.text]["ids"], batch.lengths[self.text]
        allowed = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
        marks = (self.vocabulary.begin, self.vocabulary.end) if self.vocabulary else ()
        for mark in marks:
            if mark is not None:
                allowed = allowed & (ids != mark)
        return allowed

    def _choose(self, allowed: Bool[Tensor, "B n"], generator: torch.Generator | None) -> Bool[Tensor, "B n"]:
        there = allowed.sum(1)
        count = torch.minimum((there * self.share).round().long().clamp(min=1), there)
        rank = _random(allowed, 0, generator).masked_fill(~allowed, 2.0).argsort(1).argsort(1)
        return rank < count[:, None]

    def _hide(
        self, ids: Int[Tensor, "B n"], chosen: Bool[Tensor, "B n"], generator: torch.Generator | None
    ) -> Int[Tensor, "B n"]:
        fate = _random(ids, 1, generator)
        other = (_random(ids, 2, generator) * self.vocab_size).long().clamp(max=self.vocab_size - 1)
        hidden = torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, ids))
        return torch.where(chosen, hidden, ids)

    def _decode(self, ids: list[int]) -> str:
        return self.vocabulary.decode(ids) if self.vocabulary else " ".join(map(str, ids))


def _random(like: Tensor, seed: int, generator: torch.Generator | None) -> Float[Tensor, "B n"]:
    """Uniform numbers; without a generator, in evaluation, the same for the same column, whatever the batch."""
    if generator is not None:
        return torch.rand(like.shape, generator=generator, device=like.device)
    row = torch.rand(like.shape[1], generator=torch.Generator().manual_seed(seed))
    return row.to(like.device).expand(like.shape)
