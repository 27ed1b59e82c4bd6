"""Who may listen to whom: one rule over integers, its brute-force reference, and the cheapest equal rendering.

Axes: B rows of the batch (1 where all rows agree), N tokens, Q of them ask, M are heard, H heads that ask, G heads that
are heard, E width of a head.

Token *i* may listen to token *j* <=> ``valid[j] and segment[i] == segment[j] and order[j] <= order[i]``, or ``i == j``.
A layer with a window adds: ``|position[i] - position[j]| < window`` on every axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Protocol, no_type_check, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Queries = Float[Tensor, "B H Q E"]
Keys = Float[Tensor, "B G M E"]
Bias = Float[Tensor, "#B H Q M"] | None


class Shape(Enum):
    """What the host knows of `order` from how the set was built, without reading the device."""

    FULL = "all orders of a segment are equal"
    CAUSAL = "order rises from token to token within a segment"
    MIXED = "anything else"


@dataclass(frozen=True)
class Span:
    """A packed segment: tokens ``start:stop`` of one row."""

    row: int
    start: int
    stop: int


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
        spans: all segments of packed rows, tokens of one side by side and valid; None where the host does not know.
        num_queries: the last so many tokens ask; None: all (a cached decoder asks for the new ones only).
    """

    order: Int[Tensor, "#B N"]
    position: Int[Tensor, "#B N 3"]
    segment: Int[Tensor, "#B N"]
    valid: Bool[Tensor, "#B N"]
    shape: Shape = Shape.MIXED
    padded: bool = True
    packed: bool = True
    spans: tuple[Span, ...] | None = None
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
        return replace(self, num_queries=num_queries)

    def prefix(self, length: int) -> Connectivity:
        """The first `length` tokens of each row."""
        return replace(
            self,
            order=self.order[:, :length],
            position=self.position[:, :length],
            segment=self.segment[:, :length],
            valid=self.valid[:, :length],
        )

    def select(self, index: Int[Tensor, " rows"]) -> Connectivity:
        """Some rows, in any order, any number of times."""

        def rows(values: Tensor) -> Tensor:
            return values if values.shape[0] == 1 else values[index]

        parts = (self.order, self.position, self.segment, self.valid)
        order, position, segment, valid = map(rows, parts)
        return replace(self, order=order, position=position, segment=segment, valid=valid, spans=None)

    def arranged(self, columns: Int[Tensor, " n"]) -> Connectivity:
        """Some tokens, in another order in the row."""
        parts = (self.order, self.position, self.segment, self.valid)
        order, position, segment, valid = (values[:, columns] for values in parts)
        return replace(
            self, order=order, position=position, segment=segment, valid=valid, shape=Shape.MIXED, spans=None
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
        if flex:
            return flex_rendering(self, window)
        if window is None and self.num_queries is None:
            if self.spans is not None and self.order.device.type == "cpu":
                segments = tuple(span for span in self.spans if span.start < span.stop)
                if segments:  # a batch without anything real goes the dense way, where all parameters stay in the graph
                    return self._per_segment(segments)
            if not self.packed and self.shape is Shape.CAUSAL:
                return Causal()  # padding stands at the end, where no valid token can hear it
            if not self.packed and self.shape is Shape.FULL and not self.padded:
                return Full()
        last_hears_all = not self.packed and not self.padded and self.shape is not Shape.MIXED
        if window is None and self.num_queries == 1 and last_hears_all:
            return Full()
        return Dense(self.dense(window)[:, None])

    def _per_segment(self, segments: tuple[Span, ...]) -> PerSegment:
        parts = []
        for span in segments:
            part: Rendering = Causal() if self.shape is Shape.CAUSAL else Full()
            if self.shape is Shape.MIXED:
                order = self.order.expand(max(self.order.shape[0], span.row + 1), -1)[span.row, span.start : span.stop]
                part = Dense((order[None, :] <= order[:, None])[None, None])
            parts.append(part)
        return PerSegment(segments, tuple(parts))


@runtime_checkable
class Rendering(Protocol):
    """Attention under one connectivity. All renderings of one connectivity give equal outputs at valid tokens."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries: ...


@dataclass(frozen=True)
class Full:
    """Everyone hears everyone: no mask."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        return sdpa(q, k, v, bias, scale, dropout)


@dataclass(frozen=True)
class Causal:
    """Everyone hears itself and what stands before it."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        if bias is None:
            return sdpa(q, k, v, None, scale, dropout, is_causal=True)
        length = q.shape[-2]
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        return sdpa(q, k, v, bias.masked_fill(later, float("-inf")), scale, dropout)


@dataclass(frozen=True)
class Dense:
    """A boolean mask; True means "may listen"."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        mask = self.allowed if bias is None else bias.masked_fill(~self.allowed, float("-inf"))
        return sdpa(q, k, v, mask, scale, dropout)


@dataclass(frozen=True)
class PerSegment:
    """Packed rows as one small call per segment: only as much is computed as is there."""

    spans: tuple[Span, ...]
    parts: tuple[Rendering, ...]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        out = torch.zeros_like(q)
        for span, part in zip(self.spans, self.parts, strict=True):
            here = (slice(span.row, span.row + 1), slice(None), slice(span.start, span.stop))
            near = None
            if bias is not None:
                row = slice(span.row, span.row + 1) if bias.shape[0] > 1 else slice(None)
                near = bias[row, :, span.start : span.stop, span.start : span.stop]
            out[here] = part.attend(q[here], k[here], v[here], bias=near, scale=scale, dropout=dropout)
        return out


@dataclass(frozen=True)
class Flex:
    """A FlexAttention block mask, for long packed rows on a GPU. It has no backward on a CPU and no dropout."""

    block_mask: BlockMask

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        from torch.nn.attention.flex_attention import flex_attention

        if dropout:
            raise ValueError(f"attention dropout={dropout} cannot be expressed by FlexAttention; set it to 0")
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise ValueError("FlexAttention has no backward on a CPU; use flex=false")
        score_mod = None if bias is None else _add_bias(bias)
        return flex_attention(
            q, k, v, score_mod=score_mod, block_mask=self.block_mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )


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


def _add_bias(bias: Float[Tensor, "#B H Q M"]) -> Callable[..., Tensor]:
    @no_type_check  # as `rule`
    def score_mod(score, b, h, q_index, kv_index):
        return score + bias[b if bias.shape[0] > 1 else 0, h, q_index, kv_index]

    return score_mod


def sdpa(
    q: Queries,
    k: Keys,
    v: Keys,
    mask: Shaped[Tensor, "#B #H #Q M"] | None,
    scale: float | None,
    dropout: float,
    is_causal: bool = False,
) -> Queries:
    """Scaled dot-product attention, heads grouped where fewer are heard than ask."""
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
