"""The rule of cross-attention: the queries are tokens of one set, the keys those of another, its memory.

Token *i* attends to token *j* of the memory <=> ``valid[j] and segment[i] == segment[j]``. Where no key is left (its
sample has no memory), cross-attention gives the token zero. Axes as in `rule`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.attention.flex import Flex
from mmtx.attention.integers import Integers
from mmtx.attention.kernels import DenseOrZero, Full, Rendering
from mmtx.attention.packing import grouped
from mmtx.attention.per_segment import PerSegment, SegmentGroup
from mmtx.attention.rule import Connectivity


@dataclass(frozen=True)
class Memory:
    """The encoder's output, which the other stack attends to by cross-attention."""

    hidden: Float[Tensor, "B M D"]
    connectivity: Connectivity

    def select(self, index: Tensor) -> Memory:
        """Some rows, in any order, any number of times."""
        return Memory(self.hidden[index], self.connectivity.select(index))


@dataclass(frozen=True)
class MemoryRule:
    """The rule between two sets, as loops and as the cheapest equal rendering.

    Attributes:
        queries: the set whose tokens attend.
        keys: the memory.
    """

    queries: Connectivity
    keys: Connectivity

    def reference(self) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for c in (self.queries, self.keys) for t in (c.segment, c.valid))
        queries = self.queries.query_segment.expand(rows, -1).tolist()
        keys, valid = self.keys.segment.expand(rows, -1).tolist(), self.keys.valid.expand(rows, -1).tolist()
        num_keys = len(self.keys)
        return torch.tensor(
            [[[valid[b][j] and i == keys[b][j] for j in range(num_keys)] for i in queries[b]] for b in range(rows)]
        )

    def dense(self) -> Bool[Tensor, "#B #Q M"]:
        """The rule as one boolean tensor, True where a query may attend to a key."""
        allowed = self.keys.valid[:, None, :]
        if self.queries.packed or self.keys.packed:
            allowed = allowed & (self.queries.query_segment[:, :, None] == self.keys.segment[:, None, :])
        return allowed

    def render(self) -> Rendering:
        """The cheapest rendering that equals the rule.

        Raises ValueError if only one of the sets is packed, and if a key is private: no other set may attend to it.
        """
        if self.keys.private is not None:
            raise ValueError("private tokens cannot be a memory, as no token of another set may attend to them")
        queries, keys = self.queries.packing, self.keys.packing
        if (queries is None) != (keys is None):
            raise ValueError("a packed set cannot attend to one that is not packed, nor the other way round")
        if queries is not None and keys is not None:
            if self.queries.order.device.type == "cpu":
                return _per_segment((*queries.segment_lengths, 0), (*keys.lengths, 0, int(keys.is_empty)))
            return self._flex()
        if not (self.keys.padded or self.keys.packed or self.queries.packed):
            return Full()
        return DenseOrZero(self.dense()[:, None])

    def _flex(self) -> Flex:
        segments, keys = self.queries.query_segment, self.keys
        query = Integers(torch.zeros_like(segments), segment=segments)
        return Flex.of(query, Integers(torch.zeros_like(keys.segment), segment=keys.segment, valid=keys.valid))


def _per_segment(query_lengths: tuple[int, ...], key_lengths: tuple[int, ...]) -> PerSegment:
    """Each sample's queries attend to the same sample's keys."""
    lengths = tuple(zip(query_lengths, key_lengths, strict=True))
    groups = []
    for samples in grouped(lengths):
        num_queries, num_keys = lengths[samples[0]]
        if num_queries:
            nothing = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
            groups.append(SegmentGroup(samples, Full() if num_keys else DenseOrZero(nothing)))
    return PerSegment(query_lengths, key_lengths, tuple(groups))
