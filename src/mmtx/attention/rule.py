"""The rule of attention within a set: one rule over integers, its brute-force reference, its cheapest equal rendering.

Token *i* attends to token *j* <=> ``valid[j] and segment[i] == segment[j]`` and ``(order[j] == order[i], or
order[j] < order[i] and not private[j])``, or ``i == j``. A layer with a window adds: ``|position[i] - position[j]| <
window`` on every axis.

Axes: B rows of the batch (1 where all rows agree), N tokens, Q query tokens, M key tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmtx.attention.blocked import Blocked
from mmtx.attention.flex import Flex
from mmtx.attention.integers import Integers, allowed
from mmtx.attention.kernels import Bias, BiasOf, Causal, Dense, Full, InParts, OneQuery, Rendering, with_room
from mmtx.attention.packing import Packing
from mmtx.attention.per_segment import PerSegment, SegmentGroup
from mmtx.attention.soft_capped import SoftCapped
from mmtx.attention.time_order import TimeOrder
from mmtx.attention.varlen import HALF, Varlen, has_varlen

LONG = 512
"""Tokens of a row from which a set is computed block by block where that leaves out most of its pairs."""

MOST = 0.5
"""Share of the pairs of blocks up to which that is cheaper than one dense mask."""


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
        column: of the only query in the row, of which the host does not know where it stands; all are keys.
        private: only tokens of its own order attend to the token; None is a promise that none is private.
        time_order: in which the tokens of each row were laid; None: name after name.
        consecutive: two tokens of a segment are as far apart in position, on the axis where they are farthest, as in
            their places in the row; False: the host does not know.
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
    column: Int[Tensor, " 1"] | None = None
    private: Bool[Tensor, "#B N"] | None = None
    time_order: TimeOrder | None = None
    consecutive: bool = False
    index: Int[Tensor, "#B N"] | None = None

    def __len__(self) -> int:
        return self.order.shape[1]

    @property
    def _count(self) -> int:
        """N, which is a symbol while a program is exported: `len` would make it a number."""
        return self.order.shape[1]

    @property
    def is_sequence(self) -> bool:
        """The tokens of a row are real and stand in their order, each in one of its own. Waits for the device."""
        return bool(self.valid.all() and (self.order.diff(dim=1) > 0).all())

    @property
    def query_position(self) -> Int[Tensor, "#B Q 3"]:
        return self._of_queries(self.position)

    @property
    def query_index(self) -> Int[Tensor, "#B Q"] | None:
        return None if self.index is None else self._of_queries(self.index)

    @property
    def query_segment(self) -> Int[Tensor, "#B Q"]:
        return self._of_queries(self.segment)

    @property
    def query_valid(self) -> Bool[Tensor, "#B Q"]:
        return self._of_queries(self.valid)

    @property
    def _first_query(self) -> int:
        return 0 if self.num_queries is None else self._count - self.num_queries

    @property
    def integers(self) -> Integers:
        """What the rule reads of all tokens; of promises, nothing."""
        place = torch.arange(self._count, device=self.order.device)[None]
        segment, valid = self.segment if self.packed else None, self.valid if self.padded else None
        return Integers(self.order, place, self.position.unbind(-1), segment, valid, self.private)

    def tail(self, num_queries: int) -> Connectivity:
        """The same tokens, of which only the last `num_queries` are queries."""
        return replace(self, num_queries=num_queries, packing=None)

    def at(self, column: Int[Tensor, " 1"]) -> Connectivity:
        """The same tokens, of which one is the query, where only the device knows."""
        return replace(self, column=column, packing=None)

    def prefix(self, length: int) -> Connectivity:
        """The first `length` tokens of each row."""
        return self._map(lambda values: values[:, :length])

    def arranged(self, columns: Int[Tensor, " n"]) -> Connectivity:
        """Some tokens, in another order in the row."""
        return replace(self._map(lambda values: values[:, columns]), pattern=Pattern.MIXED)

    def gathered(self, columns: Int[Tensor, "B m"], real: Bool[Tensor, "B m"]) -> Connectivity:
        """Some tokens of each row, in their order there; those that are not `real` count for nothing."""
        rows = torch.arange(len(columns), device=columns.device)[:, None]

        def gather(values: Tensor) -> Tensor:
            return values.expand(len(columns), *values.shape[1:])[rows, columns]

        made = self._map(gather)
        return replace(made, valid=made.valid & real)

    def laid(self, time_order: TimeOrder, pattern: Pattern) -> Connectivity:
        """The tokens of each row in the order of time, of which the host knows the pattern."""
        return replace(self._map(time_order.lay), pattern=pattern, time_order=time_order)

    def spread(self, places: Int[Tensor, " N"]) -> Connectivity:
        """The same tokens farther apart: positions 0, 1, 2, ... are these, which rise."""
        index = None if self.index is None else places[self.index]
        return replace(self, position=places[self.position], index=index, consecutive=False)

    def select(self, index: Int[Tensor, " rows"]) -> Connectivity:
        """Some rows, in any order, any number of times."""
        return self._map(lambda values: values if values.shape[0] == 1 else values[index])

    def _map(self, of: Callable[[Tensor], Tensor]) -> Connectivity:
        order, position, segment, valid = of(self.order), of(self.position), of(self.segment), of(self.valid)
        private, index = (None if values is None else of(values) for values in (self.private, self.index))
        made = replace(self, order=order, position=position, segment=segment, valid=valid, private=private, index=index)
        return replace(made, packing=None, time_order=None, consecutive=False)

    def samples(self) -> Iterator[tuple[tuple[int, ...], Connectivity]]:
        """Those of a packed row that are equally long, and their tokens, a row for each; one length after another."""
        assert self.packing is not None
        groups, stacked = self.packing.groups(), self.packing.stacked
        privates = [None] * len(groups) if self.private is None else stacked(self.private)
        columns = groups, stacked(self.order), stacked(self.position), privates
        for samples, order, position, private in zip(*columns, strict=True):
            zero, real = torch.zeros_like(order), torch.ones_like(order, dtype=torch.bool)
            alone = Connectivity(order, position, zero, real, self.pattern, padded=False, packed=False, private=private)
            yield samples, alone

    def reference(self, window: int | None = None) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for t in (self.order, self.position, self.segment, self.valid))
        order, segment = self.order.expand(rows, -1).tolist(), self.segment.expand(rows, -1).tolist()
        valid, position = self.valid.expand(rows, -1).tolist(), self.position.expand(rows, -1, -1).tolist()
        private = (torch.zeros_like(self.valid) if self.private is None else self.private).expand(rows, -1).tolist()
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
        query = self._queries.map(lambda part: part[:, :, None])
        return allowed(query, self.integers.map(lambda part: part[:, None]), window)

    def render(
        self,
        window: int | None = None,
        *,
        flex: bool = False,
        dtype: torch.dtype = torch.float32,
        changes_scores: bool = False,
        sinks: bool = False,
        softcap: float | None = None,
    ) -> Rendering:
        """The cheapest rendering that equals the rule on every valid token.

        Outputs at invalid tokens are finite and mean nothing: no valid token attends to them.

        Args:
            window: reach in positions.
            flex: by FlexAttention, on any device.
            dtype: of the computation.
            changes_scores: attention has dropout or a bias of positions, which not every kernel of a GPU knows.
            sinks: attention has sinks, which FlexAttention knows and FlashAttention does not.
            softcap: scores are kept within ± this, see `SoftCapped`.
        """
        if softcap is not None:
            return self._soft_capped(window, softcap, flex, changes_scores)
        if self.column is not None:
            return OneQuery.of(self.dense(window), dtype)
        if flex:
            return self._flex(window)
        if self._per_segment:
            return self._segments(window)
        may_pay = window is not None and self.num_queries is None and self._on_gpu and not changes_scores
        if self.packing is not None or (may_pay and self._count >= LONG):
            return (None if sinks else self._varlen(window, dtype)) or self._flex(window)
        if window is None and self.num_queries is None:
            if not self.packed and self.pattern is Pattern.CAUSAL:
                return Causal()  # padding stands at the end, behind all valid tokens
            if not self.packed and self.pattern is Pattern.FULL and not self.padded:
                return Full()
        last_attends_to_all = not self.packed and not self.padded and self.pattern is not Pattern.MIXED
        if window is None and self.num_queries == 1 and last_attends_to_all:
            return Full()
        return self._blocked(window) or Dense(self.dense(window)[:, None])

    def bias(self, rendering: Rendering, of: BiasOf) -> Bias:
        """The bias of all positions, made part by part where a rendering of these tokens is computed so."""
        if isinstance(rendering, InParts):
            return rendering.bias(of, self.position)
        if self.packing is not None:
            raise ValueError("position biases (alibi, t5) cannot be packed on a GPU; use loader.packing=false")
        made = of(self.query_position, self.position)
        return rendering.padded(made) if isinstance(rendering, OneQuery | SoftCapped) else made

    def _soft_capped(self, window: int | None, softcap: float, flex: bool, changes_scores: bool) -> Rendering:
        if self._per_segment and not flex:
            return self._segments(window, softcap)
        is_long = self._on_gpu and self._count >= LONG and self.num_queries is None and not changes_scores
        if self.column is None and (flex or self.packing is not None or is_long):
            return self._flex(window, softcap)
        allowed = self.dense(window)[:, None]
        return SoftCapped(allowed if self.column is None else with_room(allowed), softcap)

    @property
    def _queries(self) -> Integers:
        return self.integers.map(self._of_queries)

    def _of_queries(self, values: Tensor) -> Tensor:
        return values[:, self._first_query :] if self.column is None else values.index_select(1, self.column)

    @property
    def _on_gpu(self) -> bool:
        return self.order.device.type == "cuda"

    @property
    def _per_segment(self) -> bool:
        """Packed rows are computed segment by segment where lengths are known and calls are cheap: on a CPU."""
        return self.packing is not None and self.order.device.type == "cpu"

    def _segments(self, window: int | None, softcap: float | None = None) -> PerSegment:
        assert self.packing is not None
        made = [SegmentGroup(samples, alone.render(window, softcap=softcap)) for samples, alone in self.samples()]
        return PerSegment(self.packing.segment_lengths, self.packing.segment_lengths, tuple(made))

    def _blocked(self, window: int | None) -> Blocked | None:
        """None where it does not pay, or where values cannot be read: on other devices, and in exported programs."""
        may_pay = self.num_queries is None and self.order.device.type == "cpu" and not torch.compiler.is_compiling()
        if not may_pay or self._count < LONG:
            return None
        return Blocked.of(self.integers, window, MOST)

    def _varlen(self, window: int | None, dtype: torch.dtype) -> Varlen | None:
        """None where the kernel cannot express the rule, or the device has none."""
        known = window is None or self.consecutive
        ordered = self.pattern is Pattern.CAUSAL or (self.pattern is Pattern.FULL and not self.padded)
        if not known or not ordered or dtype not in HALF or not has_varlen(self.order.device):
            return None
        return Varlen.of(self.pattern is Pattern.CAUSAL, window, self.packing, dtype)

    def _flex(self, window: int | None, softcap: float | None = None) -> Flex:
        return Flex.of(self._queries, self.integers, window, softcap)
