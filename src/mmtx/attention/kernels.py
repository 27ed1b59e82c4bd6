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

BiasOf = Callable[[Int[Tensor, "#B Q 3"], Int[Tensor, "#B M 3"]], Float[Tensor, "#B H Q M"]]
"""Gives the bias of positions of queries and keys."""


@runtime_checkable
class Rendering(Protocol):
    """A mask together with the kernel that computes attention under it."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries: ...


@runtime_checkable
class InParts(Rendering, Protocol):
    """A rendering that computes parts of the mask alone, and has a bias for each of them."""

    def bias(self, of: BiasOf, position: Int[Tensor, "#B N 3"]) -> Bias: ...


@dataclass(frozen=True)
class Full:
    """No mask: every query attends to every key."""

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        return sdpa(q, k, v, whole(bias), scale, dropout)


@dataclass(frozen=True)
class Causal:
    """A causal mask: a token attends to itself and to what stands before it in the row."""

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
    """A boolean mask, True where a query may attend to a key. Every query has at least one key."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        bias = whole(bias)
        mask = self.allowed if bias is None else bias.masked_fill(~self.allowed, float("-inf"))
        return sdpa(q, k, v, mask, scale, dropout)


@dataclass(frozen=True)
class OneQuery:
    """A mask of one query over all keys that a cache has room for: 0 where it attends, else minus infinity.

    It is made once for all layers. Kernels of a GPU read it as it is, as its length is a multiple of `KEYS`.
    """

    scores: Float[Tensor, "#B 1 1 M"]

    @classmethod
    def of(cls, allowed: Bool[Tensor, "#B 1 N"], dtype: torch.dtype) -> "OneQuery":
        whole = F.pad(allowed, (0, -allowed.shape[2] % KEYS))[:, None]
        return cls(torch.zeros_like(whole, dtype=dtype).masked_fill(~whole, float("-inf")))

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        bias, mask = whole(bias), self.scores.to(q.dtype)
        return sdpa(q, k, v, mask if bias is None else mask + bias, scale, dropout)

    def padded(self, bias: Float[Tensor, "#B H 1 N"]) -> Float[Tensor, "#B H 1 M"]:
        """A bias of the tokens, for all that there is room for."""
        return F.pad(bias, (0, self.scores.shape[3] - bias.shape[3]))


@dataclass(frozen=True)
class SoftCapped:
    """A boolean mask, under scores s that are kept within ±cap: ``cap · tanh(s / cap)`` (Gemma 2, arXiv 2408.00118).
    A bias is added after that.

    Kernels of torch cannot do it, so that all scores are held.
    """

    allowed: Bool[Tensor, "#B 1 #Q M"]
    cap: float

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        bias, room = whole(bias), k.shape[2] - self.allowed.shape[3]  # a cache may have room for more keys
        if q.shape[1] != k.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        scores = q @ k.transpose(-1, -2) * (q.shape[3] ** -0.5 if scale is None else scale)
        scores = soft_capped(scores, self.cap)
        scores = scores if bias is None else scores + F.pad(bias, (0, room))
        scores = scores.masked_fill(~F.pad(self.allowed, (0, room)), float("-inf"))
        weights = scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(v.dtype)
        return F.dropout(weights, dropout) @ v


def soft_capped(scores: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """Scores kept within ±cap."""
    return cap * torch.tanh(scores / cap)


@dataclass(frozen=True)
class DenseOrZero:
    """A boolean mask under which a query may be left without any key: its output is zero."""

    allowed: Bool[Tensor, "#B 1 #Q M"]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        if bias is not None:
            raise ValueError("a position bias has no meaning between two sets")
        empty = ~self.allowed.any(-1, keepdim=True)
        return sdpa(q, k, v, self.allowed | empty, scale, dropout).masked_fill(empty, 0.0)


def whole(bias: Bias) -> Float[Tensor, "#B H Q M"] | None:
    """The bias of whole rows; raises ValueError for one made segment by segment."""
    if isinstance(bias, tuple):
        raise ValueError("the bias of a packed row, segment by segment, has no meaning for whole rows")
    return bias


Mask = Shaped[Tensor, "#B #H #Q M"] | None


def sdpa(
    q: Queries, k: Keys, v: Keys, mask: Mask, scale: float | None, dropout: float, is_causal: bool = False
) -> Queries:
    """Scaled dot-product attention, with grouped queries where there are fewer key heads than query heads."""
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=scale, enable_gqa=gqa)
