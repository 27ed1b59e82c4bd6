"""Predicted chains over true ones, as a picture."""

from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.structure.superposition import rmsd, superpose

MOST_PANELS, COLUMNS, INCHES = 6, 3, 3.0


def draw_chains(
    predicted: Float[Tensor, "B n 3"], true: Float[Tensor, "B n 3"], real: Bool[Tensor, "B n"], path: Path
) -> None:
    """A panel for each chain, of the first few: the true one in grey, and the predicted one laid over it.

    Args:
        predicted: in Å.
        true: likewise.
        real: which residues there are.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    shown = real.any(1).nonzero()[:MOST_PANELS, 0].tolist()
    columns = min(max(len(shown), 1), COLUMNS)
    figure = Figure(figsize=(INCHES * columns, INCHES * -(-max(len(shown), 1) // columns)), layout="constrained")
    laid, off = superpose(predicted, true, real), rmsd(predicted, true, real).tolist()
    for place, index in enumerate(shown):
        axes = figure.add_subplot(-(-len(shown) // columns), columns, place + 1, projection="3d")
        for points, colour, width in ((true, "tab:gray", 3.0), (laid, "tab:blue", 1.5)):
            x, y, z = points[index, real[index]].cpu().T.tolist()
            axes.plot(x, y, z, color=colour, linewidth=width)
        axes.set_title(f"{off[index]:.1f} Å", fontsize=9)
        axes.set_axis_off()
        axes.set_aspect("equal")
    figure.savefig(path, dpi=110)
