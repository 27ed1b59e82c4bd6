"""Connectionist temporal classification."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_fraction, check_within
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.predictions import TEXTS
from mmtx.objectives.text_metrics import TextMetric
from mmtx.objectives.transcripts import (
    accepted_texts,
    check_metrics,
    text_directions,
    transcript_examples,
    transcript_metrics,
    transcript_stats,
)


class CTC(Objective):
    """A text predicted from tokens in its order, without an alignment (Graves et al. 2006).

    Every token of `source` scores all ids and a blank; the loss is the negative log-likelihood of all alignments of the
    text, without its begin and end. It uses the encoder's output where `source` is encoded, and is counted per id of
    the text. A text that needs more tokens than its source has is infeasible: such a sample has no loss, though its
    ids are counted, and the share of such samples is the metric ``too_long``.

    Args:
        source: name whose tokens predict.
        text: name of the data whose text is predicted; it need not be in the set.
        metrics: ``{name: TextMetric}``, of greedily decoded texts; None: none.
        blank: the id that is the blank, which no text has (wav2vec 2.0: that of padding); None: one beyond all ids.
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        source: str,
        text: str,
        metrics: dict[str, TextMetric] | None,
        blank: int | None = None,  # absent in stored configs of earlier versions
        dropout: float = 0.0,  # likewise
    ) -> None:
        super().__init__(weight=weight)
        required_name(source, model.names, "modality of the set", "source")
        spec = required_spec(text, specs, "text")
        if spec.vocabulary is None:
            raise InvalidValue("text", text, "has no vocabulary")
        _check_unseen(model, source, text)
        metrics = metrics or {}
        check_metrics(metrics)
        self.labels, self.reads = (text,), (source,)
        self.source, self.text, self.writes = source, text, text
        self.vocabulary, self.text_metrics = spec.vocabulary, metrics
        self.directions = known("too_long") | text_directions(metrics)
        ids = spec.vocabulary.size
        if blank is not None:
            check_within("blank", blank, 0, ids - 1)
        check_fraction("dropout", dropout)
        self.blank, rows = (ids, ids + 1) if blank is None else (blank, ids)
        self.coded = {"head.weight": text, "head.bias": text}
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(model.backbone.dim, rows)
        initialise(self.head, std=model.backbone.init_std)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self._targets(batch)[1].sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        scores, lengths = self.scores(model, batch)
        targets, target_lengths = self._targets(batch)
        needed = target_lengths + _repeats(targets, target_lengths)
        feasible = (needed <= lengths) & (target_lengths > 0)
        loss = F.ctc_loss(
            scores.log_softmax(-1).transpose(0, 1),
            targets,
            torch.where(feasible, lengths, scores.shape[1]),  # any legal length: infeasible rows are left out below
            torch.where(feasible, target_lengths, 0),
            blank=self.blank,
            reduction="none",
        )
        loss_sum = torch.where(feasible, loss, 0.0).sum()
        present = target_lengths > 0
        count = target_lengths.sum()
        stats = {"too_long": ((present & ~feasible).sum(), present.sum())}
        if self.training:
            return Score(loss_sum, count, stats)
        accepted = accepted_texts(batch, self.text, None, self.vocabulary)
        written = self._decode(scores, lengths)
        return Score(loss_sum, count, stats | transcript_stats(self.text_metrics, written, accepted, loss.device))

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = {"loss": score.mean_loss(), "too_long": score.ratio("too_long")}
        return metrics if set(score.stats) == {"too_long"} else metrics | transcript_metrics(self.text_metrics, score)

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        accepted = accepted_texts(batch, self.text, None, self.vocabulary)
        return transcript_examples(self.write(model, batch), accepted)

    columns = TEXTS

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The text of each sample, as `write` gives it, and the true one."""
        accepted = accepted_texts(batch, self.text, None, self.vocabulary)
        return {"predicted": self.write(model, batch), "truth": [each[0] if each else None for each in accepted]}

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``log_probabilities`` of ids and blank at every token, ``(B, n, rows)``, the blank last if it is no id; and
        ``length``, ``(B,)``, how many tokens each sample has."""
        scores, lengths = self.scores(model, batch)
        return {"log_probabilities": scores.log_softmax(-1), "length": lengths}

    @torch.inference_mode()
    def write(self, model: MultimodalTransformer, batch: Batch) -> list[str]:
        """The text of each sample, greedily: the best id of each token, repetitions joined, blanks left out."""
        return self._decode(*self.scores(model, batch))

    def scores(
        self, model: MultimodalTransformer, batch: Batch
    ) -> tuple[Float[Tensor, "B n V_with_blank"], Int[Tensor, " B"]]:
        """Scores of ids and blank at every token, and how many tokens each sample has."""
        states = model.encode(batch, self.source)
        return self.head(self.dropout(states.tokens(self.source))).float(), states.lengths(self.source)

    def _decode(self, scores: Float[Tensor, "B n V_with_blank"], lengths: Int[Tensor, " B"]) -> list[str]:
        rows = zip(scores.argmax(-1).tolist(), lengths.tolist(), strict=True)
        return [self.vocabulary.decode(collapse(row[:length], self.blank)) for row, length in rows]

    def _targets(self, batch: Batch) -> tuple[Int[Tensor, "B n"], Int[Tensor, " B"]]:
        """Ids of the text without its begin and end, and how many there are."""
        ids, lengths = batch[self.text]["ids"], batch.lengths[self.text]
        real = _within(ids, lengths)
        for mark in (self.vocabulary.begin, self.vocabulary.end):
            if mark is not None:
                real = real & (ids != mark)
        front = real.int().argsort(dim=1, descending=True, stable=True)
        return ids.gather(1, front), real.sum(1)


def collapse(ids: list[int], blank: int) -> list[int]:
    """The ids of an alignment: repetitions joined, then blanks left out."""
    return [i for last, i in zip([blank, *ids], ids, strict=False) if i not in (last, blank)]


def _repeats(ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Neighbours that are equal, between which a blank is needed."""
    return ((ids[:, 1:] == ids[:, :-1]) & _within(ids, lengths)[:, 1:]).sum(1)


def _within(ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B n"]:
    return torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]


def _check_unseen(model: MultimodalTransformer, source: str, text: str) -> None:
    """Raises InvalidValue if the tokens that predict a text attend to it."""
    stack = model.encoded if source in model.encoded else model.decoded
    clocks = list(dict.fromkeys(model.clock_of[name] for name in stack))
    within = text in stack and clocks.index(model.clock_of[text]) <= clocks.index(model.clock_of[source])
    if within or (text in model.encoded and source not in model.encoded):
        otherwise = f"modality=[{source},{text}]" if within else f"encode=[{source}]"
        raise InvalidValue("source", source, f"attends to '{text}', which it predicts", otherwise)
