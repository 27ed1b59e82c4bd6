"""In-context learning: the answer to each input of a prompt, from the examples before it."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import Direction, known
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Score, required_spec
from mmtx.objectives.example_curves import draw_example_curves
from mmtx.objectives.step_prediction import StepPrediction

SQUARES = "squares"
"""The statistic of what is squared, for standard errors."""


class InContext(StepPrediction):
    """The answer of each step of a prompt, from its input and the examples before it, which are inputs with answers
    (Garg et al. 2022, arXiv 2208.01066). With x on a clock before y, tokens are x1 y1 x2 y2 ..., and the answer y3 is
    predicted from x3, which attends to two examples.

    Numbers have a squared error, and the metric ``squared_error``; classes have a cross-entropy, and ``accuracy``. In
    an evaluation each metric is also given by the number of examples, ``squared_error/examples=2``, with its standard
    error over prompts, ``squared_error/standard_error/examples=2``; and for every other estimator whose answers the
    data has, ``squared_error/of=ridge`` and ``squared_error/of=ridge/examples=2``.

    Args:
        target: name of the data with an answer for each step, ``class`` or ``values``; in the set after `read`.
        read: name of the set with an input for each step.
        dropout: before the head.
        estimates: name of the data whose fields are the answers of other estimators, by their names; null: none.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        target: str,
        read: str,
        dropout: float,
        estimates: str | None,
    ) -> None:
        super().__init__(specs=specs, model=model, weight=weight, target=target, read=read, dropout=dropout)
        self.metric = "accuracy" if self.is_discrete else "squared_error"
        self.max_steps, self.estimates = specs[target].max_length, estimates
        self.estimators = () if estimates is None else _estimators(estimates, specs, target, self.field)
        self.slice_names = () if estimates is None else (estimates,)
        self.directions = self._directions()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        predicted, real = self.predict(model(batch), self._num_steps(batch)), self._real(batch)
        quality = self._quality(self.choose(predicted), batch)
        stats = {self.metric: self._sums(quality, real)}
        if not self.training:
            stats[SQUARES] = self._sums(quality.square(), real)
            stats |= {name: self._sums(*each) for name, each in self._of_estimators(batch, real).items()}
        return Score(self.errors(predicted, batch)[0].sum(), self.count(batch), stats)

    def metrics(self, score: Score) -> dict[str, float]:
        stats = dict(score.stats)
        squares, found = stats.pop(SQUARES, None), {"loss": score.mean_loss()}
        for name, (total, count) in stats.items():
            found[name] = float(total.sum() / count.sum()) if count.any() else float("nan")
            found |= {f"{name}/{ending}": value for ending, value in _by_examples(total, count)}
        if squares is not None:
            (total, count), name = stats[self.metric], f"{self.metric}/standard_error"
            found |= {f"{name}/{ending}": e for ending, e in _by_examples(*_standard_error(total, squares[0], count))}
        return found

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """The metric against the number of examples, with its interval, beside the other estimators."""
        score = self(model, batch)
        curves = {name: _points(*pair) for name, pair in score.stats.items() if name != SQUARES}
        total, count = score.stats[self.metric]
        errors = _points(*_standard_error(total, score.stats[SQUARES][0], count))
        draw_example_curves(curves, [error for _, error in errors], path)

    def _quality(self, answers: Shaped[Tensor, "B steps ..."], batch: Batch) -> Float[Tensor, "B steps"]:
        """Of each answer, whether it is right, or its squared error, per number."""
        target = batch[self.target][self.field]
        if self.is_discrete:
            return (answers == target).double()
        return (answers.detach().double() - target.double()).square().mean(-1)

    def _of_estimators(
        self, batch: Batch, real: Bool[Tensor, "B steps"]
    ) -> dict[str, tuple[Float[Tensor, "B steps"], Bool[Tensor, "B steps"]]]:
        """The quality of each estimator's answers, and where it has any."""
        if self.estimates is None or self.estimates not in batch:
            return {}
        present = real & batch.present(self.estimates)[:, None]
        steps = real.shape[1]
        of_each = {name: _cut(batch[self.estimates][name], steps) for name in self.estimators}
        return {f"{self.metric}/of={name}": (self._quality(own, batch), present) for name, own in of_each.items()}

    def _sums(
        self, quality: Float[Tensor, "B steps"], real: Bool[Tensor, "B steps"]
    ) -> tuple[Num[Tensor, "*steps"], Num[Tensor, "*steps"]]:
        """Over the samples of each step; in training, of which a step would have few, over all."""
        value = torch.where(real, quality, 0.0)
        if self.training:
            return value.sum(), real.sum()
        missing = (0, self.max_steps - real.shape[1])
        return F.pad(value.sum(0), missing), F.pad(real.sum(0), missing)

    def _directions(self) -> dict[str, Direction | None]:
        better = known(self.metric)[self.metric]
        endings = [f"/examples={number}" for number in range(self.max_steps)]
        names = [self.metric, *(f"{self.metric}/of={name}" for name in self.estimators)]
        errors = dict.fromkeys(f"{self.metric}/standard_error{ending}" for ending in endings)
        return {f"{name}{ending}": better for name in names for ending in ("", *endings)} | errors


def _estimators(estimates: str, specs: Mapping[str, Spec], target: str, key: str) -> tuple[str, ...]:
    """The names of the estimators. Raises InvalidValue where one has no answers like the target's."""
    true, fields = specs[target].fields[key], required_spec(estimates, specs, "estimates").fields
    for name, field in fields.items():
        if field != true:
            problem = (
                f"has a field '{name}' of {field.shape}, {field.dtype}, and '{target}' is {true.shape}, {true.dtype}"
            )
            raise InvalidValue("estimates", estimates, problem, "null")
    return tuple(fields)


def _cut(answers: Shaped[Tensor, "B n ..."], steps: int) -> Shaped[Tensor, "B steps ..."]:
    """So many steps; what is missing is 0."""
    missing = answers.new_zeros(len(answers), max(steps - answers.shape[1], 0), *answers.shape[2:])
    return torch.cat([answers[:, :steps], missing], 1)


def _standard_error(
    total: Num[Tensor, " steps"], squares: Num[Tensor, " steps"], count: Num[Tensor, " steps"]
) -> tuple[Float[Tensor, " steps"], Num[Tensor, " steps"]]:
    """Of the mean of each step: sums that `_by_examples` divides by the count, which is 0 where there is no spread."""
    several = torch.where(count > 1, count, 0)
    variance = (squares - total.square() / count.clamp(min=1)).clamp(min=0) / (several - 1).clamp(min=1)
    return (variance / several.clamp(min=1)).sqrt() * several, several


def _points(total: Num[Tensor, "*steps"], count: Num[Tensor, "*steps"]) -> list[tuple[int, float]]:
    """The mean of each number of examples that there is; none of a sum over all."""
    if not total.dim():
        return []
    pairs = enumerate(zip(total.tolist(), count.tolist(), strict=True))
    return [(number, value / samples) for number, (value, samples) in pairs if samples]


def _by_examples(total: Num[Tensor, "*steps"], count: Num[Tensor, "*steps"]) -> list[tuple[str, float]]:
    return [(f"examples={number}", value) for number, value in _points(total, count)]
