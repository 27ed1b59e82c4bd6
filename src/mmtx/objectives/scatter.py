"""Predicted numbers against true ones, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

MOST_PANELS, COLUMNS, INCHES = 8, 4, 3.0


def draw_scatter(
    predicted: Float[Tensor, "n size"], true: Float[Tensor, "n size"], names: Sequence[str], path: Path
) -> None:
    """A panel for each number, of the first few: a point for each prediction, and the line on which all would lie.

    Args:
        predicted: in the units of the target.
        true: likewise.
        names: of the numbers.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    count = min(len(names), MOST_PANELS)
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    figure = Figure(figsize=(INCHES * columns, INCHES * rows), layout="constrained")
    for number in range(count):
        x, y = true[:, number].tolist(), predicted[:, number].tolist()
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.scatter(x, y, s=12, alpha=0.7)
        axes.axline((0, 0) if not x else (min(x), min(x)), slope=1, color="tab:gray", linewidth=0.8)
        axes.set_xlabel(f"{names[number]}, true")
        axes.set_ylabel("predicted")
    figure.savefig(path, dpi=110)
