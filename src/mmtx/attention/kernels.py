"""Kernels: ways to compute attention under a mask. All that render one rule agree at every valid token.

Axes: B rows of the batch, Q query tokens, M key tokens, H query heads, G key and value heads, E width of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Queries = Float[Tensor, "B H Q E"]
Keys = Float[Tensor, "B G M E"]
Bias = Float[Tensor, "#B H Q M"] | tuple[Any, ...] | None
"""Added to the scores: one tensor for whole rows, or a bias for each part of a rendering that is `InParts`."""

KEYS = 16
"""Caches have room for a multiple of so many keys."""

WIDER = 8
"""Features that a sink adds to heads: one would do, but kernels of a GPU read multiples of so many."""

Sinks = Float[Tensor, " H"] | None
"""The score of one more key of each head, which every query attends to and whose value is zero."""

BiasOf = Callable[[Int[Tensor, "#B Q 3"], Int[Tensor, "#B M 3"]], Float[Tensor, "#B H Q M"]]
"""Gives the bias of positions of queries and keys."""


@runtime_checkable
class Rendering(Protocol):
    """A mask together with the kernel that computes attention under it."""

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries: ...


@runtime_checkable
class InParts(Rendering, Protocol):
    """A rendering that computes parts of the mask alone, and has a bias for each of them."""

    def bias(self, of: BiasOf, position: Int[Tensor, "#B N 3"]) -> Bias: ...


@dataclass(frozen=True)
class Full:
    """No mask: every query attends to every key."""

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        return sdpa(q, k, v, whole(bias), scale, dropout, sinks)


@dataclass(frozen=True)
class Causal:
    """A causal mask: a token attends to itself and to what stands before it in the row."""

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        bias = whole(bias)
        if bias is None:
            return sdpa(q, k, v, None, scale, dropout, sinks, is_causal=True)
        length = q.shape[-2]
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        return sdpa(q, k, v, bias.masked_fill(later, float("-inf")), scale, dropout, sinks)


@dataclass(frozen=True)
class Dense:
    """A boolean mask, True where a query may attend to a key. Every query has at least one key."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        bias = whole(bias)
        mask = self.allowed if bias is None else bias.masked_fill(~self.allowed, float("-inf"))
        return sdpa(q, k, v, mask, scale, dropout, sinks)


@dataclass(frozen=True)
class OneQuery:
    """A mask of one query over all keys that a cache has room for: 0 where it attends, else minus infinity.

    It is made once for all layers. Kernels of a GPU read it as it is, as its length is a multiple of `KEYS`.
    """

    scores: Float[Tensor, "#B 1 1 M"]

    @classmethod
    def of(cls, allowed: Bool[Tensor, "#B 1 N"], dtype: torch.dtype) -> "OneQuery":
        whole = with_room(allowed)[:, None]
        return cls(torch.zeros_like(whole, dtype=dtype).masked_fill(~whole, float("-inf")))

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        bias, mask = whole(bias), self.scores.to(q.dtype)
        return sdpa(q, k, v, mask if bias is None else mask + bias, scale, dropout, sinks)

    def padded(self, bias: Float[Tensor, "#B H 1 N"]) -> Float[Tensor, "#B H 1 M"]:
        """A bias of the tokens, for all that there is room for."""
        return F.pad(bias, (0, self.scores.shape[3] - bias.shape[3]))


def with_room(allowed: Bool[Tensor, "*rows N"]) -> Bool[Tensor, "*rows M"]:
    """A mask of tokens, for all that a cache has room for."""
    return F.pad(allowed, (0, -allowed.shape[-1] % KEYS))


@dataclass(frozen=True)
class DenseOrZero:
    """A boolean mask under which a query may be left without any key: its output is zero."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        if bias is not None:
            raise ValueError("a position bias has no meaning between two sets")
        empty = ~self.allowed.any(-1, keepdim=True)
        return sdpa(q, k, v, self.allowed | empty, scale, dropout, sinks).masked_fill(empty, 0.0)


def whole(bias: Bias) -> Float[Tensor, "#B H Q M"] | None:
    """The bias of whole rows; raises ValueError for one made segment by segment."""
    if isinstance(bias, tuple):
        raise ValueError("the bias of a packed row, segment by segment, has no meaning for whole rows")
    return bias


Mask = Shaped[Tensor, "#B #H #Q M"] | None


def sdpa(
    q: Queries,
    k: Keys,
    v: Keys,
    mask: Mask,
    scale: float | None,
    dropout: float,
    sinks: Sinks = None,
    is_causal: bool = False,
) -> Queries:
    """Scaled dot-product attention, with grouped queries where there are fewer key heads than query heads."""
    if sinks is not None:
        return _sdpa_with_sinks(q, k, v, mask, scale, dropout, sinks, is_causal)
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=scale, enable_gqa=gqa)


def _sdpa_with_sinks(
    q: Queries,
    k: Keys,
    v: Keys,
    mask: Mask,
    scale: float | None,
    dropout: float,
    sinks: Float[Tensor, " H"],
    is_causal: bool,
) -> Queries:
    """The sink as the first key. One more feature gives its score: ``sink / scale`` in queries, 1 in this key, 0 in all
    others; so every kernel knows it, and its gradient. A causal mask has one more query before all others."""
    width = q.shape[3]
    scale = width**-0.5 if scale is None else scale
    score = (sinks / scale).to(q.dtype).view(1, -1, 1, 1).expand(*q.shape[:3], 1)
    q = F.pad(torch.cat([q, score], dim=-1), (0, WIDER - 1, int(is_causal), 0))
    k, v = (F.pad(x, (0, WIDER, 1, 0)) for x in (k, v))
    k[:, :, 0, width] = 1
    if mask is not None:
        mask = F.pad(mask, (1, 0), value=mask.dtype is torch.bool)
    attended = sdpa(q, k, v, mask, scale, dropout, is_causal=is_causal)
    return attended[:, :, int(is_causal) :, :width]
