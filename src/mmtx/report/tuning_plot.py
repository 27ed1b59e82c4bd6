"""Plot of the metric against the learning rate."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mmtx.report.comparison import Comparison, in_order, number, rounded, short
from mmtx.report.plots import colours_of, draw_numbers, plain, png
from mmtx.report.tuning import RATE, Tuned

MOST_LINES = 12


def tuning_plot(found: Sequence[Tuned], comparison: Comparison) -> bytes:
    """A line for each combination of the other axes, with its best rate marked. Of two other axes, the one of names, or
    the first, has a panel for each of its values."""
    others = [axis for axis in comparison.axes if axis != RATE]
    across = panel_axis(others, found) if len(others) == 2 else None
    values = in_order([each.others[across] for each in found]) if across else [""]
    figure = Figure(figsize=(1.2 + 4.2 * len(values), 4.4), layout="constrained")
    rates = in_order([setting.values[RATE] for each in found for setting in each.settings])
    for place, value in enumerate(values, 1):
        axes = figure.add_subplot(1, len(values), place)
        lines = [each for each in found if across is None or each.others[across] == value]
        shown = {each.label: each for each in lines[:MOST_LINES]}
        if across:
            (rest,) = [axis for axis in others if axis != across]
            shown = {f"{short(rest)}={rounded(each.others[rest])}": each for each in lines}
            axes.set_title(f"{across}={rounded(value)}", fontsize=10)
        for colour, (label, each) in zip(colours_of([*shown]), shown.items(), strict=True):
            draw_numbers(axes, each.settings, RATE, rates, colour, label)
            axes.plot(float(each.best.values[RATE]), each.best.mean, "*", color=colour, markersize=14)
        axes.set(xlabel=RATE, ylabel=comparison.metric if place == 1 else "")
        axes.legend(fontsize=8, frameon=False)
        plain(axes)
    return png(figure)


def panel_axis(axes: Sequence[str], found: Sequence[Tuned]) -> str:
    """Of some axes, the first whose values are not all numbers; otherwise the first."""
    named = [axis for axis in axes if any(number(each.others[axis]) is None for each in found)]
    return (named or axes)[0]
