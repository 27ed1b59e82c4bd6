"""Plot of quality against length, or whatever else numbers slices."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mmtx.report.plots import colours_of, plain, png, scale
from mmtx.report.slice_curves import SliceCurves


def slice_plot(found: Sequence[SliceCurves]) -> bytes:
    """A panel for each metric, with a curve for each setting."""
    figure = Figure(figsize=(5.4 * len(found), 4.2), layout="constrained")
    for place, each in enumerate(found, 1):
        axes = figure.add_subplot(1, len(found), place)
        for colour, (label, points) in zip(colours_of([*each.curves]), each.curves.items(), strict=True):
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, lw=1.5, label=label)
        scale(axes, [str(number) for number in each.numbers])
        axes.set(xlabel=each.name, ylabel=each.metric)
        plain(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return png(figure)
