"""Who may listen to whom across two sets: the tokens of one ask, those of the other, its memory, are heard.

Axes as in `connectivity`. Token *i* may listen to token *j* of the memory <=>
``valid[j] and segment[i] == segment[j]``. A token that is left with nothing to hear (its sample has no memory) hears
nothing: attention gives it zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.connectivity import Bias, Connectivity, Full, Keys, Queries, Rendering, sdpa


@dataclass(frozen=True)
class Memory:
    """What a second stack made of its own set."""

    hidden: Float[Tensor, "B M D"]
    connectivity: Connectivity

    def select(self, index: Tensor) -> Memory:
        """Some rows, in any order, any number of times."""
        return Memory(self.hidden[index], self.connectivity.select(index))


@dataclass(frozen=True)
class Crossing:
    """The rule between two sets, as loops and as the cheapest equal rendering.

    Attributes:
        listening: the set whose tokens ask.
        heard: the memory.
    """

    listening: Connectivity
    heard: Connectivity

    def reference(self) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for c in (self.listening, self.heard) for t in (c.segment, c.valid))
        asks = self.listening.query_segment.expand(rows, -1).tolist()
        segment, valid = self.heard.segment.expand(rows, -1).tolist(), self.heard.valid.expand(rows, -1).tolist()
        return torch.tensor(
            [
                [[valid[b][j] and own == segment[b][j] for j in range(len(self.heard))] for own in asks[b]]
                for b in range(rows)
            ]
        )

    def dense(self) -> Bool[Tensor, "#B #Q M"]:
        """The rule as one boolean tensor; True means "may listen"."""
        allowed = self.heard.valid[:, None, :]
        if self.listening.packed or self.heard.packed:
            allowed = allowed & (self.listening.query_segment[:, :, None] == self.heard.segment[:, None, :])
        return allowed

    def render(self) -> Rendering:
        """The cheapest rendering that equals the rule."""
        if not (self.heard.padded or self.heard.packed or self.listening.packed):
            return Full()
        return Partly(self.dense()[:, None])


@dataclass(frozen=True)
class Partly:
    """A boolean mask some of whose rows may be empty."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        if bias is not None:
            raise ValueError("a position bias has no meaning between two sets")
        nothing = ~self.allowed.any(-1, keepdim=True)
        return sdpa(q, k, v, self.allowed | nothing, scale, dropout).masked_fill(nothing, 0.0)
