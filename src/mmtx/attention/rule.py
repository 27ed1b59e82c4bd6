"""The rule of attention within a set: one rule over integers, its brute-force reference, its cheapest equal rendering.

Token *i* attends to token *j* <=> ``valid[j] and segment[i] == segment[j]`` and ``(order[j] == order[i], or
order[j] < order[i] and not private[j])``, or ``i == j``. A layer with a window adds: ``|position[i] - position[j]| <
window`` on every axis.

Axes: B rows of the batch (1 where all rows agree), N tokens, Q query tokens, M key tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import no_type_check

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmtx.attention.flex import Flex
from mmtx.attention.kernels import Bias, Causal, Dense, Full, Rendering
from mmtx.attention.packing import Packing
from mmtx.attention.per_segment import PerSegment, SegmentGroup
from mmtx.attention.time_order import TimeOrder


class Pattern(Enum):
    """What the host knows of `order` and `private` from how the set was built, without reading the device."""

    FULL = "all orders of a segment are equal"
    CAUSAL = "order rises from token to token within a segment, and none is private"
    MIXED = "anything else"


@dataclass(frozen=True)
class Connectivity:
    """The integers of every token, and what the host knows of them.

    Attributes:
        order: a token attends to tokens of the same order, and to those of lower order that are not private.
        position: coordinates (time, row, column).
        segment: which sample of a packed row the token belongs to.
        valid: the token is real.
        pattern: of the order within a segment.
        padded: some token may be invalid; False is a promise that none is.
        packed: a row may hold several segments; False is a promise that none does.
        packing: where the tokens of a packed row come from; None where rows are samples.
        num_queries: the last so many tokens are queries, all are keys; None: all are queries, too.
        private: only tokens of its own order attend to the token; None is a promise that none is private.
        time_order: in which the tokens of each row were laid; None: name after name.
        index: of each token among those of its sample, for positions that read it; None: nothing does.
    """

    order: Int[Tensor, "#B N"]
    position: Int[Tensor, "#B N 3"]
    segment: Int[Tensor, "#B N"]
    valid: Bool[Tensor, "#B N"]
    pattern: Pattern = Pattern.MIXED
    padded: bool = True
    packed: bool = True
    packing: Packing | None = None
    num_queries: int | None = None
    private: Bool[Tensor, "#B N"] | None = None
    time_order: TimeOrder | None = None
    index: Int[Tensor, "#B N"] | None = None

    def __len__(self) -> int:
        return self.order.shape[1]

    @property
    def is_sequence(self) -> bool:
        """The tokens of a row are real and stand in their order, each in one of its own. Waits for the device."""
        return bool(self.valid.all() and (self.order.diff(dim=1) > 0).all())

    @property
    def query_position(self) -> Int[Tensor, "#B Q 3"]:
        return self.position[:, self._first_query :]

    @property
    def query_index(self) -> Int[Tensor, "#B Q"] | None:
        return None if self.index is None else self.index[:, self._first_query :]

    @property
    def query_segment(self) -> Int[Tensor, "#B Q"]:
        return self.segment[:, self._first_query :]

    @property
    def query_valid(self) -> Bool[Tensor, "#B Q"]:
        return self.valid[:, self._first_query :]

    @property
    def _first_query(self) -> int:
        return 0 if self.num_queries is None else len(self) - self.num_queries

    @property
    def _private(self) -> Bool[Tensor, "#B N"]:
        return torch.zeros_like(self.valid) if self.private is None else self.private

    def tail(self, num_queries: int) -> Connectivity:
        """The same tokens, of which only the last `num_queries` are queries."""
        return replace(self, num_queries=num_queries, packing=None)

    def prefix(self, length: int) -> Connectivity:
        """The first `length` tokens of each row."""
        return self._map(lambda values: values[:, :length])

    def arranged(self, columns: Int[Tensor, " n"]) -> Connectivity:
        """Some tokens, in another order in the row."""
        return replace(self._map(lambda values: values[:, columns]), pattern=Pattern.MIXED)

    def laid(self, time_order: TimeOrder, pattern: Pattern) -> Connectivity:
        """The tokens of each row in the order of time, of which the host knows the pattern."""
        return replace(self._map(time_order.lay), pattern=pattern, time_order=time_order)

    def select(self, index: Int[Tensor, " rows"]) -> Connectivity:
        """Some rows, in any order, any number of times."""
        return self._map(lambda values: values if values.shape[0] == 1 else values[index])

    def _map(self, of: Callable[[Tensor], Tensor]) -> Connectivity:
        order, position, segment, valid = of(self.order), of(self.position), of(self.segment), of(self.valid)
        private, index = (None if values is None else of(values) for values in (self.private, self.index))
        made = replace(self, order=order, position=position, segment=segment, valid=valid, private=private, index=index)
        return replace(made, packing=None, time_order=None)

    def reference(self, window: int | None = None) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for t in (self.order, self.position, self.segment, self.valid, self._private))
        order, segment = self.order.expand(rows, -1).tolist(), self.segment.expand(rows, -1).tolist()
        valid, position = self.valid.expand(rows, -1).tolist(), self.position.expand(rows, -1, -1).tolist()
        private = self._private.expand(rows, -1).tolist()
        allowed = torch.zeros(rows, len(self) - self._first_query, len(self), dtype=torch.bool)
        for b in range(rows):
            for i in range(self._first_query, len(self)):
                for j in range(len(self)):
                    earlier = order[b][j] < order[b][i] and not private[b][j]
                    in_order = order[b][j] == order[b][i] or earlier
                    attends = valid[b][j] and segment[b][i] == segment[b][j] and in_order
                    if window is not None:
                        near = all(abs(p - q) < window for p, q in zip(position[b][i], position[b][j], strict=True))
                        attends = attends and near
                    allowed[b, i - self._first_query, j] = attends or i == j
        return allowed

    def dense(self, window: int | None = None) -> Bool[Tensor, "#B Q M"]:
        """The rule as one boolean tensor, True where a query may attend to a key."""
        first = self._first_query
        key_order, query_order = self.order[:, None, :], self.order[:, first:, None]
        allowed = key_order <= query_order
        if self.private is not None:
            allowed = allowed & (~self.private[:, None, :] | (key_order == query_order))
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

        Outputs at invalid tokens are finite and mean nothing: no valid token attends to them.
        """
        if flex or (self.packing is not None and not self._per_segment):
            return self._flex(window)
        if self._per_segment:
            return self._segments(window)
        if window is None and self.num_queries is None:
            if not self.packed and self.pattern is Pattern.CAUSAL:
                return Causal()  # padding stands at the end, behind all valid tokens
            if not self.packed and self.pattern is Pattern.FULL and not self.padded:
                return Full()
        last_attends_to_all = not self.packed and not self.padded and self.pattern is not Pattern.MIXED
        if window is None and self.num_queries == 1 and last_attends_to_all:
            return Full()
        return Dense(self.dense(window)[:, None])

    def bias(self, of: Callable[[Tensor, Tensor], Tensor]) -> Bias:
        """The bias of all positions, made group by group where a packed row is computed segment by segment.

        Args:
            of: gives the bias of query positions ``(B, Q, 3)`` and key positions ``(B, M, 3)``.
        """
        if self.packing is None:
            return of(self.query_position, self.position)
        if not self._per_segment:
            raise ValueError("position biases (alibi, t5) cannot be packed on a GPU; use loader.packing=false")
        biases = []
        for position in self.packing.stacked(self.position):
            agree = bool((position == position[:1]).all())
            shared = position[:1] if agree else position
            biases.append(of(shared, shared))
        return tuple(biases)

    @property
    def _per_segment(self) -> bool:
        """Packed rows are computed segment by segment where lengths are known and calls are cheap: on a CPU."""
        return self.packing is not None and self.order.device.type == "cpu"

    def _segments(self, window: int | None) -> PerSegment:
        assert self.packing is not None
        groups, stacked = self.packing.groups(), self.packing.stacked
        privates = [None] * len(groups) if self.private is None else stacked(self.private)
        columns = groups, stacked(self.order), stacked(self.position), privates
        made = []
        for samples, order, position, private in zip(*columns, strict=True):
            rendering: Rendering = Causal() if self.pattern is Pattern.CAUSAL else Full()
            if self.pattern is Pattern.MIXED or window is not None:
                zero, real = torch.zeros_like(order), torch.ones_like(order, dtype=torch.bool)
                alone = Connectivity(order, position, zero, real, padded=False, packed=False, private=private)
                rendering = Dense(alone.dense(window)[:, None])
            made.append(SegmentGroup(samples, rendering))
        return PerSegment(self.packing.segment_lengths, self.packing.segment_lengths, tuple(made))

    def _flex(self, window: int | None) -> Flex:
        tensors, first = (self.order, self.segment, self.valid, self.position, self._private), self._first_query
        rows, some_are_private = max(t.shape[0] for t in tensors), self.private is not None
        order, segment, valid, position, private = (t.expand(rows, *t.shape[1:]) for t in tensors)

        @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
        def rule(b, h, q_index, kv_index):  # h: the rule is the same for every head
            i, j = q_index + first, kv_index
            attends = valid[b, j] & (segment[b, i] == segment[b, j]) & (order[b, j] <= order[b, i])
            if some_are_private:
                attends = attends & (~private[b, j] | (order[b, j] == order[b, i]))
            if window is not None:
                for axis in range(3):
                    attends = attends & ((position[b, i, axis] - position[b, j, axis]).abs() < window)
            return attends | (i == j)

        return Flex.of(rule, rows, len(self) - first, len(self), self.order.device)
