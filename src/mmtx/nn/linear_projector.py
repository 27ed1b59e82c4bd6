"""A projector of one linear map."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.nn.projector import Projector


class LinearProjector(Projector):
    """One linear map for each token (LLaVA: Liu et al. 2023, arXiv 2304.08485).

    Args:
        causal: each token attends to itself and to those before it, as in LLaVA; false: they attend to each other.
    """

    def __init__(self, *, from_dim: int, dim: int, extent: tuple[int, ...], causal: bool = False) -> None:
        super().__init__(from_dim=from_dim, dim=dim, extent=extent, causal=causal)
        self.out = nn.Linear(from_dim, dim)

    def forward(self, hidden: Float[Tensor, "B n F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        return self.out(hidden)
