"""Next-token prediction of texts that go on beyond the context, by streaming."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.streaming import Stream, Streaming
from mmtx.errors import InvalidValue
from mmtx.metric_directions import KNOWN
from mmtx.model import MultimodalTransformer
from mmtx.nn.linear_cross_entropy import Predictions
from mmtx.objectives.base import Score
from mmtx.objectives.next_token import NextToken
from mmtx.tokens import HiddenStates

LOSS, WITHOUT_FIRST, WITHOUT_NOTES = "loss", "loss/of=without_first", "loss/of=without_notes"
"""Metrics by place: of the stream, and of those that keep no first tokens or no notes."""


class Streamed(NextToken):
    """`NextToken`, whose evaluations stream texts that are longer than the context, see `Streaming`.

    Of such texts there is also the loss by place. With a context of 128, ``loss/place=128`` is the mean over the first
    128 predictions, ``loss/place=256`` over the 128 behind them, ``loss/place=512`` over the 256 behind those. Beside
    it ``loss/of=without_first``, by place too, is that with as large a cache that keeps no first tokens, and
    ``loss/of=without_notes`` that with one that keeps no notes, where these are kept.

    Args:
        cache_size: tokens in the cache; null: as many as the context.
        keep_first: the first of them, which are never dropped.
        notes, note_marks: likewise, see `Streaming`.
        The other keys are those of `NextToken`.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        tied: bool,
        logit_scale: float,
        label_smoothing: float,
        softcap: float | None,
        slices: Sequence[str],
        cache_size: int | None,
        keep_first: int,
        notes: int = 0,  # this and the next are absent in stored configs of earlier versions
        note_marks: Sequence[str | int] = (),
    ) -> None:
        super().__init__(
            specs=specs,
            model=model,
            weight=weight,
            text=text,
            tied=tied,
            logit_scale=logit_scale,
            label_smoothing=label_smoothing,
            softcap=softcap,
            slices=slices,
        )
        context, size = self.head.context, self.head.context if cache_size is None else cache_size
        if size > context:
            raise InvalidValue("cache_size", size, f"is more than modality.{text}.context", f"at most {context}")
        self.ways = {LOSS: Streaming(size, keep_first, notes, note_marks)}
        if keep_first:
            self.ways[WITHOUT_FIRST] = replace(self.ways[LOSS], keep_first=0)
        if notes:
            self.ways[WITHOUT_NOTES] = replace(self.ways[LOSS], notes=0, note_marks=())
            self.ways[LOSS].mark_ids(specs[text].vocabulary)
        self.streams, most = (text,), (specs[text].max_length - 1) // context
        self.places = [context << number for number in range(most.bit_length() + 1)]
        endings = ["", *(f"/place={place}" for place in self.places)]
        own = {f"{metric}{ending}": KNOWN["loss"] for metric in self.ways for ending in endings}
        self.directions = {**self.directions, **own}

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        inputs, targets, real = self.head.shift(batch)
        if self.training or targets.shape[1] <= self.head.context:
            return super().forward(model, batch)
        streamed = {
            metric: [*self._parts(model, inputs, targets, real, streaming)] for metric, streaming in self.ways.items()
        }
        rights = [part.predictions.right for part in streamed[LOSS] if part.predictions.right is not None]
        loss = torch.stack([part.predictions.loss for part in streamed[LOSS]]).sum()
        score = self._score(model, batch, Predictions(loss, torch.cat(rights, dim=1)), targets, real)
        sums = {f"{metric}/place": self._sums(parts) for metric, parts in streamed.items()}
        return Score(score.loss_sum, score.count, {**score.stats, **sums})

    def score_of(self, model: MultimodalTransformer, states: HiddenStates, batch: Batch) -> Score:
        is_whole = self.training or batch[self.text]["ids"].shape[1] <= self.head.context
        return super().score_of(model, states, batch) if is_whole else self(model, batch)

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = super().metrics(score)
        for metric in (metric for metric in self.ways if f"{metric}/place" in score.stats):
            losses, counts = score.stats[f"{metric}/place"]
            for place, loss, count in zip(self.places, losses.tolist(), counts.tolist(), strict=True):
                if count:
                    metrics[f"{metric}/place={place}"] = loss / count
            if metric != LOSS and counts.any():
                metrics[metric] = float(losses.sum() / counts.sum())
        return metrics

    def _parts(
        self,
        model: MultimodalTransformer,
        inputs: Batch,
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
        streaming: Streaming,
    ) -> Iterator["_Part"]:
        """Predictions of as many tokens as the context has, one part after another."""
        stream, context = Stream(model, inputs, self.text, streaming), self.head.context
        parts = zip(*(each.split(context, dim=1) for each in (inputs[self.text]["ids"], targets, real)), strict=True)
        for number, (ids, true, there) in enumerate(parts):
            predictions = self.head.loss(model, stream.extend(ids), true, there)
            yield _Part(number.bit_length(), predictions, there.sum())

    def _sums(self, parts: Sequence["_Part"]) -> tuple[Float[Tensor, " places"], Num[Tensor, " places"]]:
        """Loss and count of each interval of places."""
        loss, count = (parts[0].num_real.new_zeros(len(self.places), dtype=torch.double) for _ in range(2))
        for part in parts:
            loss[part.interval] += part.predictions.loss
            count[part.interval] += part.num_real
        return loss, count


class _Part(NamedTuple):
    """Predictions of consecutive tokens, how many there are, and in which interval of places."""

    interval: int
    predictions: Predictions
    num_real: Int[Tensor, ""]
