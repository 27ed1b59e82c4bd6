"""What each of some models reaches on each of some tasks, and what it costs: a sweep over two axes of names."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mmtx.report.comparison import Comparison, in_order, number
from mmtx.report.table import Rows, spread
from mmtx.report.tuning import RATE, Tuned, tuned
from mmtx.run.run_record import RunRecord

COSTS = {
    "train/tokens_per_second": "tokens a second in training",
    "costs/written/tokens_per_second": "tokens a second in writing",
    "costs/memory_gib": "peak of memory, GiB",
}
"""What is shown beside the metric, where runs have it."""

MARK = {"lowest": " <", "highest": " >", "": ""}


@dataclass(frozen=True)
class Crossing:
    """Two axes of names.

    Attributes:
        across: the first axis of the sweep, whose values have a column each.
        down: the other, whose values have a row each.
        columns: values of `across`.
        rows: values of `down`.
        cells: what was reached at the best learning rate, by row and column.
    """

    across: str
    down: str
    columns: list[str]
    rows: list[str]
    cells: dict[tuple[str, str], Tuned]


def crossing(comparison: Comparison) -> Crossing | None:
    """None unless two axes other than the learning rate were swept, both of names."""
    axes = [axis for axis in comparison.axes if axis != RATE]
    found = tuned(comparison)
    if len(axes) != 2 or any(all(number(each.others[axis]) is not None for each in found) for axis in axes):
        return None
    across, down = axes
    columns, rows = (in_order([each.others[axis] for each in found]) for axis in axes)
    return Crossing(across, down, columns, rows, {(each.others[down], each.others[across]): each for each in found})


def metric_table(found: Crossing, metric: str) -> tuple[list[str], Rows]:
    """Head and rows: the metric at the best learning rate."""
    cells = {place: spread(each.best.scores) + MARK[each.end] for place, each in found.cells.items()}
    return _table(found, metric, cells)


def cost_table(found: Crossing, name: str) -> tuple[list[str], Rows]:
    """Head and rows: one of the `COSTS` at the best learning rate."""
    values = {place: cost(each, name) for place, each in found.cells.items()}
    return _table(found, COSTS[name], {place: f"{value:.4g}" for place, value in values.items() if value is not None})


def _table(found: Crossing, title: str, cells: dict[tuple[str, str], str]) -> tuple[list[str], Rows]:
    rows = [[row, *(cells.get((row, column), "") for column in found.columns)] for row in found.rows]
    return [title, *found.columns], rows


def cost(each: Tuned, name: str) -> float | None:
    """The median over the runs of the best setting, each the median of what it logged; None where none has."""
    of_runs = [value for run in each.best.runs if (value := _of_run(run, name)) is not None]
    return statistics.median(of_runs) if of_runs else None


def _of_run(run: RunRecord, name: str) -> float | None:
    logged: Sequence[float] = [value for _, value in run.curve(name)]
    return statistics.median(logged) if logged else None
