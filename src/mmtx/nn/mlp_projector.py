"""A projector of two linear maps."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.nn.projector import Projector


class MLPProjector(Projector):
    """Two linear maps with GELU between, for each token (LLaVA-1.5: Liu et al. 2023, arXiv 2310.03744).

    Args:
        causal: each token attends to itself and to those before it, as in LLaVA; false: they attend to each other.
    """

    def __init__(self, *, from_dim: int, dim: int, extent: tuple[int, ...], causal: bool = False) -> None:
        super().__init__(from_dim=from_dim, dim=dim, extent=extent, causal=causal)
        self.up, self.out = nn.Linear(from_dim, dim), nn.Linear(dim, dim)

    def forward(self, hidden: Float[Tensor, "B n F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        return self.out(F.gelu(self.up(hidden)))
