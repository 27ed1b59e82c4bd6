"""Who may listen to whom: one rule over integers, its brute-force reference, and the cheapest equal rendering.

Axes: B rows of the batch (1 where all rows agree), N tokens, Q of them ask, M are heard, D width.

Token *i* may listen to token *j* <=> ``valid[j] and segment[i] == segment[j] and order[j] <= order[i]``, or ``i == j``.
A layer with a window adds: ``|position[i] - position[j]| < window`` on every axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.attention.kernels import Bias, Call, Causal, Dense, Flex, Full, PerSegment, Rendering


class Shape(Enum):
    """What the host knows of `order` from how the set was built, without reading the device."""

    FULL = "all orders of a segment are equal"
    CAUSAL = "order rises from token to token within a segment"
    MIXED = "anything else"


@dataclass(frozen=True)
class Packing:
    """How the real tokens of all samples stand side by side in one row, sample after sample.

    Attributes:
        lengths: real tokens of each sample.
        index: where each token of the row stands in the flattened rows of the samples.
        real: which tokens of those rows are real.
    """

    lengths: tuple[int, ...]
    index: Int[Tensor, " N"]
    real: Bool[Tensor, "samples n"]

    @property
    def segments(self) -> tuple[int, ...]:
        """Lengths of the segments of the row: of each sample, and of nobody."""
        return (*self.lengths, self.padding)

    @property
    def padding(self) -> int:
        """Where nobody has anything, one token that is nobody's keeps all parameters in the graph."""
        return 0 if any(self.lengths) else 1

    def together(self) -> list[tuple[int, ...]]:
        """Segments that are equally long, shortest first."""
        return grouped(self.segments)

    def spread(self, values: Float[Tensor, "samples 1 1"]) -> Float[Tensor, "1 N 1"]:
        """A value of each sample, at each of its tokens."""
        return values[self.index // self.real.shape[1]].view(1, -1, 1)

    def unpack(self, hidden: Float[Tensor, "1 N D"]) -> Float[Tensor, "samples n D"]:
        """Every token back in the row of its sample, and zeros elsewhere."""
        rows = hidden.new_zeros(self.real.numel(), hidden.shape[2]).index_copy(0, self.index, hidden[0])
        if self.padding:
            rows = rows * 0.0
        return rows.unflatten(0, self.real.shape)


def grouped(segments: tuple[int | tuple[int, int], ...]) -> list[tuple[int, ...]]:
    """Places of equal values, in order of the values."""
    places: dict[int | tuple[int, int], list[int]] = {}
    for place, length in enumerate(segments):
        places.setdefault(length, []).append(place)
    return [tuple(places[length]) for length in sorted(places)]


@dataclass(frozen=True)
class Connectivity:
    """The integers of every token, and what the host knows of them.

    Attributes:
        order: token j is heard by tokens of the same or higher order.
        position: coordinates (time, row, column).
        segment: which sample of a packed row the token belongs to.
        valid: the token is real.
        shape: `Shape` of the order within a segment.
        padded: some token may be invalid; False is a promise that none is.
        packed: a row may hold several segments; False is a promise that none does.
        packing: where the tokens of a packed row come from; None where rows are samples.
        num_queries: the last so many tokens ask; None: all (a cached decoder asks for the new ones only).
    """

    order: Int[Tensor, "#B N"]
    position: Int[Tensor, "#B N 3"]
    segment: Int[Tensor, "#B N"]
    valid: Bool[Tensor, "#B N"]
    shape: Shape = Shape.MIXED
    padded: bool = True
    packed: bool = True
    packing: Packing | None = None
    num_queries: int | None = None

    def __len__(self) -> int:
        return self.order.shape[1]

    @property
    def query_position(self) -> Int[Tensor, "#B Q 3"]:
        return self.position[:, self._first_query :]

    @property
    def query_segment(self) -> Int[Tensor, "#B Q"]:
        return self.segment[:, self._first_query :]

    @property
    def _first_query(self) -> int:
        return 0 if self.num_queries is None else len(self) - self.num_queries

    def tail(self, num_queries: int) -> Connectivity:
        """The same tokens, of which only the last `num_queries` ask."""
        return replace(self, num_queries=num_queries, packing=None)

    def prefix(self, length: int) -> Connectivity:
        """The first `length` tokens of each row."""
        return replace(
            self,
            order=self.order[:, :length],
            position=self.position[:, :length],
            segment=self.segment[:, :length],
            valid=self.valid[:, :length],
            packing=None,
        )

    def select(self, index: Int[Tensor, " rows"]) -> Connectivity:
        """Some rows, in any order, any number of times."""

        def rows(values: Tensor) -> Tensor:
            return values if values.shape[0] == 1 else values[index]

        parts = (self.order, self.position, self.segment, self.valid)
        order, position, segment, valid = map(rows, parts)
        return replace(self, order=order, position=position, segment=segment, valid=valid, packing=None)

    def arranged(self, columns: Int[Tensor, " n"]) -> Connectivity:
        """Some tokens, in another order in the row."""
        return replace(
            self,
            order=self.order[:, columns],
            position=self.position[:, columns],
            segment=self.segment[:, columns],
            valid=self.valid[:, columns],
            shape=Shape.MIXED,
            packing=None,
        )

    def reference(self, window: int | None = None) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for t in (self.order, self.position, self.segment, self.valid))
        order, segment = self.order.expand(rows, -1).tolist(), self.segment.expand(rows, -1).tolist()
        valid, position = self.valid.expand(rows, -1).tolist(), self.position.expand(rows, -1, -1).tolist()
        allowed = torch.zeros(rows, len(self) - self._first_query, len(self), dtype=torch.bool)
        for b in range(rows):
            for i in range(self._first_query, len(self)):
                for j in range(len(self)):
                    heard = valid[b][j] and segment[b][i] == segment[b][j] and order[b][j] <= order[b][i]
                    if window is not None:
                        near = all(abs(p - q) < window for p, q in zip(position[b][i], position[b][j], strict=True))
                        heard = heard and near
                    allowed[b, i - self._first_query, j] = heard or i == j
        return allowed

    def dense(self, window: int | None = None) -> Bool[Tensor, "#B Q M"]:
        """The rule as one boolean tensor; True means "may listen"."""
        first = self._first_query
        allowed = self.order[:, None, :] <= self.order[:, first:, None]
        if self.padded:
            allowed = allowed & self.valid[:, None, :]
        if self.packed:
            allowed = allowed & (self.segment[:, None, :] == self.segment[:, first:, None])
        if window is not None:
            distance = (self.position[:, first:, None, :] - self.position[:, None, :, :]).abs().amax(-1)
            allowed = allowed & (distance < window)
        itself = torch.arange(len(self), device=self.order.device)
        return allowed | (itself[None, :] == itself[first:, None])

    def render(self, window: int | None = None, flex: bool = False) -> Rendering:
        """The cheapest rendering that equals the rule on every valid token.

        Outputs at invalid tokens are finite and mean nothing: nothing valid ever listens to them.
        """
        if flex or (self.packing is not None and not self._per_segment):
            return flex_rendering(self, window)
        if self._per_segment:
            return self._segments(window)
        if window is None and self.num_queries is None:
            if not self.packed and self.shape is Shape.CAUSAL:
                return Causal()  # padding stands at the end, where no valid token can hear it
            if not self.packed and self.shape is Shape.FULL and not self.padded:
                return Full()
        last_hears_all = not self.packed and not self.padded and self.shape is not Shape.MIXED
        if window is None and self.num_queries == 1 and last_hears_all:
            return Full()
        return Dense(self.dense(window)[:, None])

    def bias(self, of: Callable[[Tensor, Tensor], Tensor]) -> Bias:
        """A bias of positions, never of a whole packed row where that is computed segment by segment.

        Args:
            of: gives the bias of the positions that ask, ``(B, Q, 3)``, and those that are heard, ``(B, M, 3)``.
        """
        if not self._per_segment:
            if self.packing is not None:
                raise ValueError(
                    "positions that are a bias (alibi, t5) cannot be packed on a GPU; use loader.packing=false"
                )
            return of(self.query_position, self.position)
        parts = []
        for position in self._stacked(self.position):
            agree = bool((position == position[:1]).all())
            own = position[:1] if agree else position
            parts.append(of(own, own))
        return tuple(parts)

    @property
    def _per_segment(self) -> bool:
        """Packed rows are computed segment by segment where lengths are known and calls are cheap: on a CPU."""
        return self.packing is not None and self.order.device.type == "cpu"

    def _segments(self, window: int | None) -> PerSegment:
        assert self.packing is not None
        calls = []
        together = [samples for samples in self.packing.together() if self.packing.segments[samples[0]]]
        for samples, order, position in zip(
            together, self._stacked(self.order), self._stacked(self.position), strict=True
        ):
            rendering: Rendering = Causal() if self.shape is Shape.CAUSAL else Full()
            if self.shape is Shape.MIXED or window is not None:
                own = Connectivity(order, position, order, torch.ones_like(order, dtype=torch.bool), packed=False)
                rendering = Dense(replace(own, padded=False).dense(window)[:, None])
            calls.append(Call(samples, rendering))
        return PerSegment(self.packing.segments, self.packing.segments, tuple(calls))

    def _stacked(self, values: Int[Tensor, "1 N *A"]) -> list[Int[Tensor, "k n *A"]]:
        """What stands in a packed row, for all segments of each length at once; empty segments left out."""
        assert self.packing is not None
        pieces, segments = values[0].split(self.packing.segments), self.packing.segments
        return [
            torch.stack([pieces[i] for i in samples]) for samples in self.packing.together() if segments[samples[0]]
        ]


def flex_rendering(connectivity: Connectivity, window: int | None = None) -> Flex:
    """The rule as a FlexAttention block mask."""
    from torch.nn.attention.flex_attention import create_block_mask

    c, first = connectivity, connectivity._first_query
    tensors = (c.order, c.segment, c.valid, c.position)
    rows = max(t.shape[0] for t in tensors)
    order, segment, valid, position = (t.expand(rows, *t.shape[1:]) for t in tensors)

    @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
    def rule(b, h, q_index, kv_index):  # h: the rule is the same for every head
        i, j = q_index + first, kv_index
        heard = valid[b, j] & (segment[b, i] == segment[b, j]) & (order[b, j] <= order[b, i])
        if window is not None:
            for axis in range(3):
                heard = heard & ((position[b, i, axis] - position[b, j, axis]).abs() < window)
        return heard | (i == j)

    queries = len(c) - first
    return Flex(create_block_mask(rule, rows, None, queries, len(c), device=str(c.order.device)))
