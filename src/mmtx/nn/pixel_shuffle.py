"""A projector that lays neighbouring patches side by side."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.nn.projector import Projector


class PixelShuffle(Projector):
    """Squares of patches become one token each: side by side, row by row, then one linear map without a bias (SmolVLM:
    Marafioti et al. 2025, arXiv 2504.05299; the inverse of Shi et al. 2016, arXiv 1609.05158).

    Args:
        factor: patches on the side of a square.
        causal: each token attends to itself and to those before it, as in SmolVLM; false: they attend to each other.
    """

    keeps_tokens = False

    def __init__(self, *, from_dim: int, dim: int, extent: tuple[int, ...], factor: int, causal: bool = False) -> None:
        check_at_least("factor", factor, 1)
        if len(extent) != 2 or any(size % factor for size in extent):
            grid = " x ".join(map(str, extent))
            raise InvalidValue("factor", factor, f"does not divide patches of {grid}; it takes rows and columns")
        own = (extent[0] // factor, extent[1] // factor)
        super().__init__(from_dim=from_dim, dim=dim, extent=own, causal=causal)
        self.factor = factor
        self.out = nn.Linear(from_dim * factor**2, dim, bias=False)

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths // self.factor**2

    def forward(self, hidden: Float[Tensor, "B n F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B m D"]:
        """Raises UserError where a sample does not fill the grid, as a shorter sound does."""
        rows, columns = self.extent
        if hidden.shape[1] != rows * columns * self.factor**2:
            raise UserError(
                f"a projector pixel_shuffle takes {rows * columns * self.factor**2} patches of every sample"
            )
        grid = hidden.unflatten(1, (rows, self.factor, columns, self.factor))  # B rows r columns c F
        return self.out(grid.transpose(2, 3).flatten(3).flatten(1, 2))
