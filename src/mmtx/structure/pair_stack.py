"""What is known of every two residues, and what triangles of them make of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.structure.triangle_update import TriangleMultiplication

FARTHEST = 32
"""Residues along the chain: greater distances count as this one (Jumper et al. 2021, supplement, algorithm 4)."""

WIDER = 2
"""Times that the hidden layer of a feed-forward is as wide as a pair."""


class PairStack(nn.Module):
    """Pairs, made of both residues, how far they are apart along the chain, and what the data knows of them; then, in
    each layer, triangle multiplication by outgoing and incoming edges, and a feed-forward, each added.

    Args:
        dim: width D of a residue.
        pair_dim: width P of a pair.
        num_layers: of triangles; none: pairs stay as they are made.
    """

    roles = {"known.weight": "input"}

    def __init__(self, dim: int, pair_dim: int, *, num_layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.left, self.right = nn.Linear(dim, pair_dim), nn.Linear(dim, pair_dim)
        self.apart, self.known = nn.Embedding(2 * FARTHEST + 1, pair_dim), nn.Linear(1, pair_dim)
        self.layers = nn.ModuleList(TriangleLayer(pair_dim) for _ in range(num_layers))

    def forward(
        self, x: Float[Tensor, "B n D"], known: Float[Tensor, "B n n"], real: Bool[Tensor, "B n"]
    ) -> Float[Tensor, "B n n P"]:
        """Args:
        x: residues.
        known: of every two, such as contacts.
        real: which residues there are.
        """
        x = self.norm(x)
        index = torch.arange(x.shape[1], device=x.device)
        apart = (index - index[:, None]).clamp(-FARTHEST, FARTHEST) + FARTHEST
        pairs = self.left(x)[:, :, None] + self.right(x)[:, None] + self.apart(apart) + self.known(known[..., None])
        both = real[:, :, None] & real[:, None]
        for layer in self.layers:
            pairs = layer(pairs, both)
        return pairs


class TriangleLayer(nn.Module):
    """Both triangle multiplications and a feed-forward, each added to the pairs."""

    def __init__(self, pair_dim: int) -> None:
        super().__init__()
        self.outgoing = TriangleMultiplication(pair_dim, edges="outgoing")
        self.incoming = TriangleMultiplication(pair_dim, edges="incoming")
        self.norm = nn.LayerNorm(pair_dim)
        self.mlp_in, self.mlp_out = nn.Linear(pair_dim, WIDER * pair_dim), nn.Linear(WIDER * pair_dim, pair_dim)

    def forward(self, pairs: Float[Tensor, "B n n P"], real: Bool[Tensor, "B n n"]) -> Float[Tensor, "B n n P"]:
        pairs = pairs + self.outgoing(pairs, real)
        pairs = pairs + self.incoming(pairs, real)
        return pairs + self.mlp_out(F.relu(self.mlp_in(self.norm(pairs))))
