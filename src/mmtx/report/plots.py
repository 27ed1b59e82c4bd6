"""Plots of a comparison: the metric along the swept axes, and the curves of all runs."""

import math
import statistics
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from mmtx.report.comparison import Comparison, Setting, in_order, number, rounded, short

DPI = 110
MOST_TICKS = 8
MOST_LABELS = 10
MOST_PANELS = 6
SMALLEST_RATIO = 4.0
ACCENT = "tab:blue"


def axis_plot(comparison: Comparison) -> bytes | None:
    """The metric along one axis, over two, or along each of several; None if nothing was swept or finished."""
    if not comparison.settings or not comparison.axes:
        return None
    if len(comparison.axes) == 1:
        return _one_axis(comparison, comparison.axes[0])
    if len(comparison.axes) == 2:
        return _two_axes(comparison)
    return _many_axes(comparison)


def curve_plot(comparison: Comparison) -> bytes | None:
    """The metric and the training loss against the step, for every run that has begun; None if none has."""
    metric = _curve_metric(comparison)
    shown = [name for name in dict.fromkeys((metric, "train/loss")) if _has_curve(comparison, name)]
    if not shown:
        return None
    figure = Figure(figsize=(5.4 * len(shown), 4.6), layout="constrained")
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), place)
        _draw_curves(axes, comparison, name)
        axes.set(xlabel="step", ylabel=name)
        plain(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > 40 else 2 * len(shown)
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return png(figure)


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    content = BytesIO()
    figure.savefig(content, dpi=DPI, format="png")
    return content.getvalue()


# ---------------------------------------------------------------- axes


def _one_axis(comparison: Comparison, axis: str) -> bytes:
    values = in_order([setting.values[axis] for setting in comparison.settings])
    if all(number(value) is not None for value in values):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        draw_numbers(axes, comparison.settings, axis, values)
        axes.set(xlabel=axis, ylabel=comparison.metric)
    else:
        figure = Figure(figsize=(6.4, 1.4 + 0.42 * len(values)), layout="constrained")
        axes = figure.add_subplot()
        _draw_categories(axes, comparison.settings, axis, values[::-1])
        axes.set(xlabel=comparison.metric, ylabel=axis)
    plain(axes)
    return png(figure)


def _two_axes(comparison: Comparison) -> bytes:
    """Lines where one axis has few values, otherwise a heat map."""
    choices = {axis: in_order([setting.values[axis] for setting in comparison.settings]) for axis in comparison.axes}
    numeric = [axis for axis in comparison.axes if all(number(value) is not None for value in choices[axis])]
    along = max(numeric, key=lambda axis: len(choices[axis]), default=None)
    if along is None or min(len(choices[axis]) for axis in comparison.axes) > 4:
        if len(comparison.settings) * 2 < math.prod(map(len, choices.values())):
            return _many_axes(comparison)  # drawn at random: a heat map would be mostly empty
        return _heat_map(comparison, choices)
    (other,) = [axis for axis in comparison.axes if axis != along]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for colour, value in zip(colours_of(choices[other]), choices[other], strict=True):
        chosen = [setting for setting in comparison.settings if setting.values[other] == value]
        draw_numbers(axes, chosen, along, choices[along], colour, f"{short(other)}={rounded(value)}")
    axes.set(xlabel=along, ylabel=comparison.metric)
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
    return png(figure)


def _heat_map(comparison: Comparison, choices: dict[str, list[str]]) -> bytes:
    """A cell for each combination, with its mean."""
    rows, columns = comparison.axes
    grid = [[math.nan] * len(choices[columns]) for _ in choices[rows]]
    for setting in comparison.settings:
        row, column = choices[rows].index(setting.values[rows]), choices[columns].index(setting.values[columns])
        grid[row][column] = setting.mean
    size = (2.2 + 0.95 * len(choices[columns]), 1.6 + 0.6 * len(choices[rows]))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(grid, cmap="viridis" if comparison.maximise else "viridis_r", aspect="auto")
    middle = (picture.norm.vmin + picture.norm.vmax) / 2  # type: ignore[operator]
    for row, line in enumerate(grid):
        for column, value in enumerate(line):
            bright = value > middle if comparison.maximise else value < middle
            text = "" if math.isnan(value) else f"{value:.3g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if bright else "white")
    axes.set_xticks(range(len(choices[columns])), [rounded(value) for value in choices[columns]])
    axes.set_yticks(range(len(choices[rows])), [rounded(value) for value in choices[rows]])
    axes.set(xlabel=columns, ylabel=rows)
    figure.colorbar(picture, label=comparison.metric)
    return png(figure)


def _many_axes(comparison: Comparison) -> bytes:
    """A panel for each axis, with a point for each setting; the values of the other axes are not shown."""
    axes_shown = comparison.axes[:MOST_PANELS]
    columns = min(3, len(axes_shown))
    rows = -(-len(axes_shown) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.4 * rows), layout="constrained")
    for place, axis in enumerate(axes_shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        values = in_order([setting.values[axis] for setting in comparison.settings])
        if all(number(value) is not None for value in values):
            x = [number(setting.values[axis]) or 0.0 for setting in comparison.settings]
            scale(axes, values)
        else:
            x = [float(values.index(setting.values[axis])) for setting in comparison.settings]
            axes.set_xticks(range(len(values)), values, rotation=20, ha="right")
        y = [setting.mean for setting in comparison.settings]
        axes.scatter(x[1:], y[1:], s=22, color=ACCENT, alpha=0.7, linewidths=0)
        axes.scatter(x[:1], y[:1], s=70, color="tab:orange", marker="*", label="best")
        axes.set(xlabel=axis, ylabel=comparison.metric if place % columns == 1 or columns == 1 else "")
        plain(axes)
    return png(figure)


def draw_numbers(
    axes: Any,
    settings: Sequence[Setting],
    axis: str,
    values: Sequence[str],
    colour: Any = ACCENT,
    label: str | None = None,
) -> None:
    """Means joined by a line, with bars of one standard deviation, and the seeds as faint points."""
    ordered = sorted(settings, key=lambda setting: number(setting.values[axis]) or 0.0)
    x = [number(setting.values[axis]) or 0.0 for setting in ordered]
    for place, setting in zip(x, ordered, strict=True):
        if len(setting.scores) > 1:
            axes.plot([place] * len(setting.scores), setting.scores, ".", color=colour, alpha=0.35, markersize=5)
    bars = [setting.sd or 0.0 for setting in ordered]
    axes.errorbar(x, [s.mean for s in ordered], yerr=bars, marker="o", color=colour, capsize=3, lw=1.5, label=label)
    scale(axes, values)


def _draw_categories(axes: Any, settings: Sequence[Setting], axis: str, values: Sequence[str]) -> None:
    """A row for each value: mean, one standard deviation, and the seeds."""
    for setting in settings:
        place = values.index(setting.values[axis])
        axes.plot(setting.scores, [place] * len(setting.scores), ".", color=ACCENT, alpha=0.35, markersize=6)
        axes.errorbar(setting.mean, place, xerr=setting.sd or 0.0, marker="o", color=ACCENT, capsize=3)
    axes.set_yticks(range(len(values)), values)
    axes.set_ylim(-0.6, len(values) - 0.4)


def scale(axes: Any, values: Sequence[str]) -> None:
    """A logarithmic axis where that suits the values, which are the ticks if they are few."""
    numbers = [number(value) or 0.0 for value in values]
    if is_logarithmic(numbers):
        axes.set_xscale("log")
        decades = math.log10(max(numbers) / min(numbers))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(values) <= MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(numbers))
        axes.set_xticks(numbers, [rounded(value) for value in values])


def is_logarithmic(numbers: Sequence[float]) -> bool:
    """Whether the median is nearer to the middle of the range on a logarithmic than on a linear scale."""
    if min(numbers) <= 0 or max(numbers) / min(numbers) < SMALLEST_RATIO:
        return False
    return _median_offset([math.log(value) for value in numbers]) < _median_offset(numbers)


def _median_offset(numbers: Sequence[float]) -> float:
    return abs((statistics.median(numbers) - min(numbers)) / (max(numbers) - min(numbers)) - 0.5)


# ---------------------------------------------------------------- curves


def _curve_metric(comparison: Comparison) -> str:
    """The metric itself; for a test metric, which is logged once, that of validation."""
    stage, _, rest = comparison.metric.partition("/")
    return f"val/{rest}" if stage == "test" and not _has_curve(comparison, comparison.metric) else comparison.metric


def _has_curve(comparison: Comparison, metric: str) -> bool:
    return any(len(record.curve(metric)) > 1 for record in comparison.records)


def _draw_curves(axes: Any, comparison: Comparison, metric: str) -> None:
    """A colour for each setting; unfinished runs are dotted and grey, with a cross where they ended."""
    labelled = len(comparison.settings) <= MOST_LABELS
    colours = colours_of([setting.label for setting in comparison.settings])
    for record, _ in comparison.unfinished:
        curve = record.curve(metric)
        if curve:
            axes.plot(*zip(*curve, strict=True), color="0.6", lw=1, ls=":", zorder=1)
            marker = "x" if record.state in ("failed", "interrupted", "pruned") else ">"
            axes.plot(*curve[-1], marker, color="0.35", markersize=5, zorder=4)
    for rank, (setting, colour) in reversed(list(enumerate(zip(comparison.settings, colours, strict=True)))):
        label = setting.label if labelled else "best: " + setting.label if rank == 0 else None
        for run in setting.runs:
            curve = run.curve(metric)
            if curve:
                wide = 2.0 if rank == 0 else 1.2
                axes.plot(
                    *zip(*curve, strict=True), color=colour, lw=wide, alpha=0.85, label=label, zorder=3 - rank / 1e4
                )
                label = None
    values = [value for record in comparison.records for _, value in record.curve(metric)]
    if metric.endswith("loss") and values and min(values) > 0 and max(values) / min(values) > 50:
        axes.set_yscale("log")


def colours_of(values: Sequence[str]) -> list[Any]:
    """A colour scale for numbers; distinct colours for a few names."""
    if len(values) <= MOST_LABELS and not all(number(value) is not None for value in values):
        return [colormaps["tab10"](i) for i in range(len(values))]
    return [colormaps["viridis"](0.9 * i / max(1, len(values) - 1)) for i in range(len(values))]


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
