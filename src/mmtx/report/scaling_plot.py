"""Plot of loss against size and against tokens, with the law."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmtx.report.plots import colours_of, plain, png
from mmtx.report.scaling import Scaling
from mmtx.report.scaling_law import Law, Values

NUM_POINTS = 60
MOST_TICKS = 6
"""Values that an axis has written out; of more, powers of ten."""
MARGIN = 2.0
"""By which curves go beyond the points."""


def scaling_plot(found: Scaling, law: Law, metric: str) -> bytes:
    """Runs as points and the law as curves: a colour for each size along tokens, and for each number of tokens along
    sizes."""
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    along_tokens, along_sizes = figure.subplots(1, 2, sharey=True)
    _draw(along_tokens, found.tokens, found.sizes, found.losses, lambda d, n: law.loss(np.full_like(d, n), d), "N")
    _draw(along_sizes, found.sizes, found.tokens, found.losses, lambda n, d: law.loss(n, np.full_like(n, d)), "D")
    along_tokens.set(xlabel="D, tokens", ylabel=metric)
    along_sizes.set(xlabel="N, parameters without embeddings and positions")
    for axes in (along_tokens, along_sizes):
        axes.axhline(law.E, color="0.4", lw=1, ls="--")
        axes.annotate("E", (1.0, law.E), (-3, 3), ha="right", xycoords=("axes fraction", "data"),
                      textcoords="offset points", fontsize=9, color="0.4")  # fmt: skip
    return png(figure)


def _draw(axes: Any, x: Values, by: Values, losses: Values, law: Any, name: str) -> None:
    curve = np.geomspace(x.min() / MARGIN, x.max() * MARGIN, NUM_POINTS)
    values = sorted(set(by))
    for colour, value in zip(colours_of([f"{value}" for value in values]), values, strict=True):
        chosen = by == value
        axes.plot(x[chosen], losses[chosen], "o", color=colour, markersize=5, label=f"{name} = {value:,.0f}")
        axes.plot(curve, law(curve, value), color=colour, lw=1.2)
    axes.set_xscale("log")
    ticks = sorted(set(x))
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
