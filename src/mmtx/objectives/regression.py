"""Regression: numbers of a sample, or of each step of a series."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from mmtx.batch import Batch, Field, Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.number_metrics import number_metrics, number_sums
from mmtx.objectives.pooling import Pool
from mmtx.objectives.scatter import draw_scatter
from mmtx.objectives.slices import Slices
from mmtx.objectives.standard_scale import StandardScale
from mmtx.objectives.steps import first_steps
from mmtx.tokens import HiddenStates

LOSSES: dict[str, Callable[..., Tensor]] = {
    "squared": partial(F.mse_loss, reduction="none"),
    "absolute": partial(F.l1_loss, reduction="none"),
    "huber": partial(F.huber_loss, reduction="none", delta=1.0),
}
"""Of a standardised number. Huber's turns from squared to absolute at one standard deviation."""


class Regression(Objective):
    """A number, a vector of them, or either for each step of a series.

    Numbers of a sample are predicted from its pooled hidden states; those of a step from the hidden states of that step
    of `read`: their mean, where there are several. The target is standardised by the training part, number by number,
    and the loss is the mean over all real numbers. Metrics are those of `number_metrics`, in the target's own units.

    Args:
        target: name of the data whose field ``values`` is predicted: ``()``, ``(size,)``, or with an axis of steps
            before. It is not in the set.
        read: name of the set that has a position for each step of the target; null: the target is of whole samples.
        pool: from tokens to one vector, where the target is of whole samples.
        loss: squared, absolute, or Huber's (1964, Ann. Math. Statist. 35, 73): squared up to 1, absolute beyond.
        dropout: before the head.
        slices: names of the data with classes, for each of which the metrics are given as well.
    """

    column_kind = "numbers"

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        target: str,
        read: str | None,
        pool: Pool,
        loss: Literal["squared", "absolute", "huber"],
        dropout: float,
        slices: list[str],
    ) -> None:
        super().__init__(weight=weight)
        field = _numbers(target, specs, model)
        self.tokens_per_step = _tokens_per_step(read, target, field, model)
        pool.check(model)
        self.target, self.read, self.pool, self.loss = target, read, pool, LOSSES[loss]
        self.labels, self.reads = (target,), pool.names if read is None else (read,)
        self.fitted_names = (target,)
        self.slices, self.slice_names = Slices(slices, specs), tuple(slices)
        self.directions = self.slices.directions({**known("mae", "rmse", "r2"), **type(self).directions})
        self.is_number = len(field.shape) == field.ragged
        self.size = 1 if self.is_number else field.shape[-1] or 1
        self.scale = StandardScale(self.size)
        self.dropout = nn.Dropout(dropout)
        dim = model.backbone.dim
        self.head = nn.Linear(pool.width(dim) if read is None else dim, self.size)
        initialise(self.head, std=model.backbone.init_std)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Takes the mean and the standard deviation of the target."""
        self.scale.fit(self._true(batch)[self._real(batch)].cpu() for batch in batches)

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        return batch.lengths[self.target].sum() * self.size

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        true, real = self.scale(self._true(batch)), self._real(batch)
        scaled = self.predict(model(batch), true.shape[1]).float()
        loss = torch.where(real[..., None], self.loss(scaled, true.float()), 0.0).sum()
        stats = self.slices.sums(batch, number_sums(scaled, true, real), real.any(1), training=self.training)
        return Score(loss, self.count(batch), stats)

    def metrics(self, score: Score) -> dict[str, float]:
        own = self.slices.metrics(score, lambda part: number_metrics(part.stats, self.scale.deviation))
        return {"loss": score.mean_loss(), **own}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        values = self.predictions(model, batch)
        pairs = zip(values["predicted"], values["truth"], strict=True)
        return [Example(_written(predicted), _written(truth)) for predicted, truth in pairs]

    @property
    def columns(self) -> dict[str, Any]:
        """A number, or a list of them for a vector, or of either for a series."""
        kind: Any = float if self.is_number else list[float]
        return dict.fromkeys(("predicted", "truth"), kind if self.read is None else list[kind])

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """Predicted and true numbers; of a series, of the steps that `read` or the target has."""
        true_steps = batch.lengths[self.target]
        steps = torch.ones_like(true_steps) if self.read is None else true_steps.maximum(batch.lengths[self.read])
        scaled = self.predict(model(batch), max(int(steps.max()), 1))
        predicted = self.scale.back(scaled.double())
        return {
            "predicted": self._plain(predicted, steps.tolist()),
            "truth": self._plain(self._true(batch), true_steps.tolist()),
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``values`` in the units of the target: a number or a vector of each sample, or of each step of `read`."""
        values = self.scale.back(self.predict(model(batch)).double()).float()
        values = values if self.read is not None else values[:, 0]
        return {"values": values[..., 0] if self.is_number else values}

    def _plain(self, values: Float[Tensor, "B steps size"], lengths: list[int]) -> list[Any]:
        """Numbers and lists as `columns` says; None for samples without any."""
        rows = (values[..., 0] if self.is_number else values).tolist()
        cut = [row[:length] or None for row, length in zip(rows, lengths, strict=True)]
        return cut if self.read is not None else [None if row is None else row[0] for row in cut]

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Predicted numbers against true ones."""
        real, several = self._real(batch), [f"{self.target} {number}" for number in range(self.size)]
        predicted, true = self.values(model, batch)[real], self._true(batch)[real]
        draw_scatter(predicted, true, several if self.size > 1 else [self.target], path)

    def values(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B steps size"]:
        """Predicted numbers, in the units of the target; of whole samples, one step."""
        return self.scale.back(self.predict(model(batch), self._true(batch).shape[1]).double())

    def predict(self, states: HiddenStates, num_steps: int | None = None) -> Float[Tensor, "B steps size"]:
        """Predicted numbers, standardised, of the first steps of each sample, or of all that it has."""
        if self.read is None:
            return self.head(self.dropout(self.pool(states)))[:, None]
        return self.head(self.dropout(first_steps(states.tokens(self.read), self.tokens_per_step, num_steps)))

    def _true(self, batch: Batch) -> Float[Tensor, "B steps size"]:
        return batch[self.target]["values"].reshape(len(batch), -1, self.size)

    def _real(self, batch: Batch) -> Bool[Tensor, "B steps"]:
        lengths = batch.lengths[self.target]
        return torch.arange(self._true(batch).shape[1], device=lengths.device) < lengths[:, None]


def _numbers(target: str, specs: Mapping[str, Spec], model: MultimodalTransformer) -> Field:
    """The field that is predicted."""
    field = required_spec(target, specs, "target").fields.get("values")
    if field is None or not field.dtype.is_floating_point:
        raise InvalidValue("target", target, "has no field 'values' of numbers")
    if len(field.shape) - field.ragged > 1:
        raise InvalidValue("target", target, f"has values of {field.shape}; a number or a vector can be predicted")
    if target in model.names:
        rest = ",".join(name for name in model.names if name != target)
        raise InvalidValue("target", target, f"is in the set, and would only be read off; modality=[{rest}]")
    return field


def _tokens_per_step(read: str | None, target: str, field: Field, model: MultimodalTransformer) -> int:
    """Checks that `read` has steps exactly if the target has, and as many."""
    if read is None:
        if field.ragged:
            which = f"read=NAME, of {', '.join(model.names)}"
            raise InvalidValue("read", "null", f"predicts one value of a sample, and {target} has one a step", which)
        return 1
    required_name(read, model.names, "modality of the set", "read")
    if not field.ragged:
        raise InvalidValue("read", read, f"predicts a value a step, and {target} has one of a sample", "null")
    tokenizer = model.tokenizer(read)
    if tokenizer.spec.max_length != field.max_length:
        problem = f"has up to {tokenizer.spec.max_length} steps in the data, and {target} {field.max_length}"
        raise InvalidValue("read", read, problem)
    return int(tokenizer.num_tokens(torch.ones(1, dtype=torch.long)))


def _written(value: Any) -> str:
    """A number, a vector with spaces, or steps of these between semicolons."""
    if isinstance(value, float):
        return f"{value:.4g}"
    nested = bool(value) and isinstance(value[0], list)
    return ("; " if nested else " ").join(map(_written, value or ()))
