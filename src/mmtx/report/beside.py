"""Models of a sweep over one number, beside other estimators: where a model turns from one into another."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mmtx.report.comparison import Comparison, number
from mmtx.report.slice_curves import BESIDE, estimators_beside
from mmtx.report.table import Rows

MODEL = "model"


@dataclass(frozen=True)
class Beside:
    """A metric against the axis of a sweep.

    Attributes:
        metric: such as ``test/squared_error``.
        axis: whose values are numbers.
        values: of the axis as typed, rising.
        curves: means over the seeds of each value, of the model and of each other estimator; None where none has it.
    """

    metric: str
    axis: str
    values: list[str]
    curves: dict[str, list[float | None]]


def beside(comparison: Comparison) -> list[Beside]:
    """One for each metric that other estimators have too; none unless one axis of several numbers was swept."""
    settings = comparison.settings
    axis = comparison.axes[0] if len(comparison.axes) == 1 else ""
    numbers = [number(setting.values[axis]) for setting in settings] if axis else []
    if len(numbers) < 2 or None in numbers:
        return []
    ordered = [setting for _, setting in sorted(zip(numbers, settings, strict=True), key=lambda pair: pair[0] or 0.0)]

    def means(metric: str) -> list[float | None]:
        scores = [[run.metrics[metric] for run in setting.runs if metric in run.metrics] for setting in ordered]
        return [statistics.fmean(each) if each else None for each in scores]

    names = {name for setting in settings for run in setting.runs for name in run.metrics}
    metrics = sorted({found["metric"] for found in filter(None, map(BESIDE.fullmatch, names))})
    return [
        Beside(
            metric,
            axis,
            [setting.values[axis] for setting in ordered],
            {MODEL: means(metric)}
            | {own: means(f"{metric}/of={own}") for own in estimators_beside(comparison.settings, metric)},
        )
        for metric in metrics
    ]


def beside_table(found: Beside) -> tuple[list[str], Rows]:
    """Head and rows: a row for each value of the axis."""
    columns: Sequence[Sequence[float | None]] = [*found.curves.values()]
    rows = [
        [value, *("" if score is None else f"{score:.4g}" for score in scores)]
        for value, scores in zip(found.values, zip(*columns, strict=True), strict=True)
    ]
    return [found.axis, *found.curves], rows
