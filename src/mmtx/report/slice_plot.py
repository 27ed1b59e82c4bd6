"""Plot of quality against length, or whatever else numbers slices."""

from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from mmtx.report.plots import colours_of, plain, png, scale
from mmtx.report.slice_curves import SliceCurves

QUANTILE = 1.96
"""Of a normal distribution: 95% lie within as many standard deviations."""

FAR = 1.5
"""Times the highest of the settings' values, beyond which other estimators are cut off, or 1, if that is higher."""
MARGIN = 0.05
"""Of the height, above and below."""


def slice_plot(found: Sequence[SliceCurves]) -> bytes:
    """A panel for each metric, and task: a curve for each setting, a band of 95% where its runs have standard errors,
    and a broken line for each other estimator."""
    figure = Figure(figsize=(5.4 * len(found), 4.2), layout="constrained")
    for place, each in enumerate(found, 1):
        axes = figure.add_subplot(1, len(found), place)
        for colour, (label, points) in zip(colours_of([*each.curves]), each.curves.items(), strict=True):
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, lw=1.5, label=label)
                _band(axes, points, each.errors.get(label, {}), colour)
        for colour, (label, points) in enumerate(each.lines.items()):
            axes.plot(*zip(*points, strict=True), "--", color=colormaps["Set1"](colour % 9), lw=1.1, label=label)
        if each.lines:
            axes.set_ylim(*_limits(each))
        scale(axes, [str(number) for number in each.numbers])
        axes.set(xlabel=each.name, ylabel=each.metric, title=each.task)
        plain(axes)
    shown = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(shown) > 1:
        figure.legend([*shown.values()], [*shown], loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return png(figure)


def _limits(found: SliceCurves) -> tuple[float, float]:
    """Of the height, for all settings, and for other estimators as far as they are near."""
    own = [value for points in found.curves.values() for _, value in points]
    every = own + [value for points in found.lines.values() for _, value in points]
    low, high = min(every), min(max(every), max(1.0, FAR * max(own)))
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def _band(axes: Any, points: Sequence[tuple[int, float]], errors: dict[int, float], colour: Any) -> None:
    known = [(number, value, QUANTILE * errors[number]) for number, value in points if number in errors]
    if known:
        numbers, low, high = zip(*((number, value - e, value + e) for number, value, e in known), strict=True)
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
