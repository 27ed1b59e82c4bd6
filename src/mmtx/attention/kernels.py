"""Ways to compute attention under a rule: each gives what the rule gives at every valid token, at its own cost.

Axes: B rows of the batch, Q tokens ask, M are heard, H heads that ask, G heads that are heard, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, no_type_check, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Queries = Float[Tensor, "B H Q E"]
Keys = Float[Tensor, "B G M E"]
Bias = Float[Tensor, "#B H Q M"] | tuple[Tensor, ...] | None
"""Added to the scores: of whole rows, or of each call of a packed row; see `PerSegment`."""


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
        return sdpa(q, k, v, whole(bias), scale, dropout)


@dataclass(frozen=True)
class Causal:
    """Everyone hears itself and what stands before it."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        bias = whole(bias)
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
        bias = whole(bias)
        mask = self.allowed if bias is None else bias.masked_fill(~self.allowed, float("-inf"))
        return sdpa(q, k, v, mask, scale, dropout)


@dataclass(frozen=True)
class Partly:
    """A boolean mask some of whose rows may be empty: who has nothing to hear gets zero."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        _refuse(bias)
        nothing = ~self.allowed.any(-1, keepdim=True)
        return sdpa(q, k, v, self.allowed | nothing, scale, dropout).masked_fill(nothing, 0.0)


@dataclass(frozen=True)
class Call:
    """Segments of a packed row that are computed together, since they are equally long.

    Attributes:
        samples: whose segments they are.
        rendering: how the tokens of each hear each other.
    """

    samples: tuple[int, ...]
    rendering: Rendering


@dataclass(frozen=True)
class PerSegment:
    """A packed row, as one call for all segments of equal length: only as much is computed as is there.

    Attributes:
        asked: tokens of each sample that ask, sample after sample.
        heard: tokens of each sample that are heard. Who has none is given the first of the row to refuse, so that
            every parameter stays in the graph.
        calls: every sample that asks, once. A bias has one part for each.
    """

    asked: tuple[int, ...]
    heard: tuple[int, ...]
    calls: tuple[Call, ...]

    @torch.compiler.disable
    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        biases = [None] * len(self.calls) if bias is None else bias
        asks, keys, values = _pieces(q, self.asked), _pieces(k, self.heard), _pieces(v, self.heard)
        out: dict[int, Tensor] = {}
        for call, own in zip(self.calls, biases, strict=True):
            parts = (_together([pieces[sample] for sample in call.samples]) for pieces in (asks, keys, values))
            heard = call.rendering.attend(*parts, bias=own, scale=scale, dropout=dropout)
            out.update(zip(call.samples, heard.transpose(1, 2).unbind(), strict=True))
        row = torch.cat([out[sample] for sample in sorted(out)])
        return row[None].transpose(1, 2)


def _pieces(row: Float[Tensor, "1 heads N E"], lengths: tuple[int, ...]) -> list[Float[Tensor, "heads n E"]]:
    """The segments of a packed row; its first token where a segment is empty."""
    return [piece if piece.shape[1] else row[0, :, :1] for piece in row[0].split(lengths, dim=1)]


def _together(pieces: list[Float[Tensor, "heads n E"]]) -> Float[Tensor, "k heads n E"]:
    return torch.stack(pieces) if len(pieces) > 1 else pieces[0][None]


@dataclass(frozen=True)
class Flex:
    """A FlexAttention block mask, for long packed rows on a GPU. It has no backward on a CPU and no dropout.

    Who has nothing to hear gets zero.
    """

    block_mask: BlockMask

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        if dropout:
            raise ValueError(f"attention dropout={dropout} cannot be expressed by FlexAttention; set it to 0")
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise ValueError("FlexAttention has no backward on a CPU; use flex=false")
        bias = whole(bias)
        score_mod = None if bias is None else _add_bias(bias)
        attention = _flex_attention(compiled=q.device.type != "cpu")
        return attention(
            q, k, v, score_mod=score_mod, block_mask=self.block_mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    """Compiled, it computes no block that nobody may hear; otherwise all scores, which suits tests."""
    from torch.nn.attention.flex_attention import flex_attention

    attention: Callable[..., Any] = flex_attention
    return torch.compile(attention, dynamic=True) if compiled else attention


def _add_bias(bias: Float[Tensor, "#B H Q M"]) -> Callable[..., Tensor]:
    @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
    def score_mod(score, b, h, q_index, kv_index):
        return score + bias[b if bias.shape[0] > 1 else 0, h, q_index, kv_index]

    return score_mod


def whole(bias: Bias) -> Float[Tensor, "#B H Q M"] | None:
    """A bias of whole rows."""
    if isinstance(bias, tuple):
        raise ValueError("the bias of a packed row, segment by segment, has no meaning for whole rows")
    return bias


def _refuse(bias: Bias) -> None:
    if bias is not None:
        raise ValueError("a position bias has no meaning between two sets")


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
