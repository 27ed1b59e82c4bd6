"""Quality against the number of examples in the context, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

QUANTILE = 1.96
"""Of a normal distribution: 95% lie within as many standard deviations."""

FAR = 1.5
"""Times the highest of the model's values, beyond which other estimators are cut off."""


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
            ends = [[v + side * QUANTILE * e for v, e in zip(values, errors, strict=True)] for side in (-1, 1)]
            axes.fill_between(numbers, *ends, color="black", alpha=0.15, linewidth=0)
        highest = max(1.0, FAR * max(values))  # least squares on as many examples as dims has no mean error at all
        axes.set_ylim(top=min(axes.get_ylim()[1], highest))
    axes.set(xlabel="examples", ylabel=metric.replace("_", " "))
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
