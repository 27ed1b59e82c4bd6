"""Triangle updates: what a pair of residues takes from the two other sides of all triangles that it is a side of."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Edges = Literal["outgoing", "incoming"]


class TriangleMultiplication(nn.Module):
    """The pair (i, j) gets, of every k, the products of the pairs (i, k) and (j, k), the outgoing edges, or (k, i) and
    (k, j), the incoming ones (Jumper et al. 2021, supplement, algorithms 11 and 12).

    The output map is zero at first, and its gate open.

    Args:
        dim: width P of a pair.
        edges: outgoing or incoming.
    """

    def __init__(self, dim: int, *, edges: Edges) -> None:
        super().__init__()
        self.edges = edges
        self.norm, self.out_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.left, self.right, self.left_gate, self.right_gate = (nn.Linear(dim, dim) for _ in range(4))
        self.gate, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for gate in (self.left_gate, self.right_gate, self.gate):
            nn.init.zeros_(gate.weight)
            nn.init.ones_(gate.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pairs: Float[Tensor, "B n n P"], real: Bool[Tensor, "B n n"]) -> Float[Tensor, "B n n P"]:
        """What is added to each pair.

        Args:
            pairs: of residues.
            real: which pairs there are.
        """
        z, there = self.norm(pairs), real[..., None]
        left = self.left(z) * self.left_gate(z).sigmoid() * there
        right = self.right(z) * self.right_gate(z).sigmoid() * there
        product = "bikp,bjkp->bijp" if self.edges == "outgoing" else "bkip,bkjp->bijp"
        return self.out(self.out_norm(torch.einsum(product, left, right))) * self.gate(z).sigmoid()
