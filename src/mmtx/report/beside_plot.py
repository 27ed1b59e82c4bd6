"""Plot of models of a sweep beside other estimators."""

from matplotlib import colormaps
from matplotlib.figure import Figure

from mmtx.report.beside import MODEL, Beside
from mmtx.report.comparison import number
from mmtx.report.plots import is_logarithmic, plain, png, scale


def beside_plot(found: Beside) -> bytes:
    """The model in black, and a broken line for each other estimator."""
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes, numbers = figure.add_subplot(), [number(value) or 0.0 for value in found.values]
    for place, (name, scores) in enumerate(found.curves.items()):
        points = [(x, y) for x, y in zip(numbers, scores, strict=True) if y is not None]
        style = ("o-", "black", 1.6) if name == MODEL else ("--", colormaps["Set1"](place % 9), 1.2)
        axes.plot(*zip(*points, strict=True), style[0], color=style[1], lw=style[2], markersize=4, label=name)
    scale(axes, found.values)
    if is_logarithmic([y for scores in found.curves.values() for y in scores if y is not None]):
        axes.set_yscale("log")
    axes.set(xlabel=found.axis, ylabel=found.metric)
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
    return png(figure)
