"""Quality against the number of examples in the context, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

QUANTILE = 1.96
"""Of a normal distribution: 95% lie within as many standard deviations."""

FAR = 1.5
"""Times the highest of the model's values, or 1 where that is higher: beyond it other estimators are cut off, as least
squares on as many examples as dims, whose error has no mean."""

MARGIN = 0.05
"""Of the height, above and below."""


def draw_example_curves(curves: Mapping[str, Sequence[tuple[int, float]]], errors: Sequence[float], path: Path) -> None:
    """The model's curve with a band of 95%, and a broken line for each other estimator.

    Args:
        curves: points (number of examples, value) by the name of the metric, the model's first.
        errors: standard errors of the model's values; none where a single prompt has no spread.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    (metric, model), *others = curves.items()
    for name, points in others:
        if points:
            axes.plot(
                *zip(*points, strict=True), "--", linewidth=1.2, label=name.rpartition("of=")[2].replace("_", " ")
            )
    if model:
        numbers, values = zip(*model, strict=True)
        axes.plot(numbers, values, "o-", color="black", markersize=4, linewidth=1.5, label="model")
        if len(errors) == len(values):
            low, high = ([v + side * QUANTILE * e for v, e in zip(values, errors, strict=True)] for side in (-1, 1))
            axes.fill_between(numbers, low, high, color="black", alpha=0.15, linewidth=0)
        every = [value for points in curves.values() for _, value in points]
        least, most = min(every), min(max(every), max(1.0, FAR * max(values)))
        axes.set_ylim(least - MARGIN * (most - least), most + MARGIN * (most - least))
    axes.set(xlabel="examples", ylabel=metric.replace("_", " "))
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
