"""Plot of what each model reaches on each task, and what it costs."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from mmtx.report.crossing import COSTS, Crossing, cost
from mmtx.report.plots import colours_of, plain, png
from mmtx.report.tuning import Tuned


def crossing_plot(found: Crossing, metric: str, measures: Sequence[str]) -> bytes:
    """A column of panels for each task, a row for the metric and for each cost, and in each a dot for every model;
    tasks have scales of their own, as their metrics and lengths differ."""
    height = 1.1 + 0.24 * len(found.rows)
    size = (1.6 + 2.9 * len(found.columns), height * (1 + len(measures)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + len(measures), len(found.columns), squeeze=False)
    readers: list[tuple[str, Callable[[Tuned], float | None]]] = [(metric, lambda each: each.best.mean)]
    readers += [(COSTS[name], lambda each, name=name: cost(each, name)) for name in measures]  # type: ignore[misc]
    for line, (title, read) in zip(grid, readers, strict=True):
        for axes, column in zip(line, found.columns, strict=True):
            _draw(axes, found, column, read)
            axes.set_xlabel(title, fontsize=8)
    for axes, column in zip(grid[0], found.columns, strict=True):
        axes.set_title(column, fontsize=9)
    for line in grid:
        line[0].set_yticklabels(found.rows)
    return png(figure)


def _draw(axes: Any, found: Crossing, column: str, read: Callable[[Tuned], float | None]) -> None:
    for place, (row, colour) in enumerate(zip(found.rows, colours_of(found.rows), strict=True)):
        each = found.cells.get((row, column))
        value = None if each is None else read(each)
        if value is not None:
            axes.plot(value, place, "o", color=colour, markersize=7)
    axes.set_yticks(range(len(found.rows)), [""] * len(found.rows))
    axes.set_ylim(len(found.rows) - 0.5, -0.5)
    axes.tick_params(labelsize=8)
    plain(axes)
