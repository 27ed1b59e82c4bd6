"""Which blocks of a row hold pairs that attend, known from the bounds of their integers. Axes as in `rule`."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mmtx.attention.integers import Integers

BLOCK = 128
"""Tokens of a block, as FlexAttention has them."""

HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class BlockPlan:
    """Which block of queries attends to which block of keys: (N / BLOCK)² comparisons, none of them of two tokens.

    A causal row of four blocks under a window of one; ``/`` is a block of some pairs, ``#`` of all, ``.`` of none::

        /...
        //..
        .//.
        ..//

    Attributes:
        some: a pair of the block may attend. A block that is left out has none.
        whole: all pairs of the block attend, which the last block of a row never has if tokens are missing there.
    """

    some: Bool[Tensor, "#B queries keys"]
    whole: Bool[Tensor, "#B queries keys"]

    @classmethod
    def of(cls, query: Integers, key: Integers, window: int | None = None) -> "BlockPlan":
        """The plan of `allowed`, made without waiting for the device."""
        parts = [_orders(query, key)]
        if key.segment is not None:
            q, k = _sides(query.segment, key.segment, key.valid)
            parts.append((_meet(q, k), _all_one(q, k)))
        if window is not None:
            for at, other in zip(query.axes, key.axes, strict=True):
                q, k = _sides(at, other, key.valid)
                near = (k.low < q.high + window) & (k.high > q.low - window)
                parts.append((near, (k.high < q.low + window) & (k.low > q.high - window)))
        some, whole = (torch.stack(torch.broadcast_tensors(*terms)).all(0) for terms in zip(*parts, strict=True))
        if key.place is not None:
            some = some | _meet(*_sides(query.place, key.place, None))
        queries, keys = torch.ones_like(query.order[:1], dtype=torch.bool), torch.ones_like(key.order, dtype=torch.bool)
        real = keys if key.valid is None else keys & key.valid
        filled = _blocks(queries, False).all(-1)[:, :, None] & _blocks(real, False).all(-1)[:, None]
        return cls(some, whole & filled)


class Bounds(NamedTuple):
    """The least and the highest value in each block; of none, the least is above the highest."""

    low: Int[Tensor, "#B ..."]
    high: Int[Tensor, "#B ..."]

    @classmethod
    def of(cls, values: Int[Tensor, "#B N"], real: Bool[Tensor, "#B N"] | None) -> "Bounds":
        low = values if real is None else torch.where(real, values, HIGHEST)
        high = values if real is None else torch.where(real, values, -HIGHEST)
        return cls(_blocks(low, HIGHEST).amin(-1), _blocks(high, -HIGHEST).amax(-1))


def _orders(query: Integers, key: Integers) -> tuple[Tensor, Tensor]:
    """Where the order allows some pairs of a block, and where all."""
    q, k = _sides(query.order, key.order, key.valid)
    if key.private is None:
        return k.low <= q.high, k.high <= q.low
    public = ~key.private if key.valid is None else ~key.private & key.valid
    some_private = _blocks(key.private, False).any(-1)[:, None]
    _, open_to_all = _sides(query.order, key.order, public)
    return (open_to_all.low <= q.high) | _meet(q, k), torch.where(some_private, _all_one(q, k), k.high <= q.low)


def _sides(query: Tensor | None, key: Tensor, real: Tensor | None) -> tuple[Bounds, Bounds]:
    """The bounds of all queries, and of the keys that are real, in shapes that broadcast."""
    assert query is not None
    q, k = Bounds.of(query, None), Bounds.of(key, real)
    return Bounds(q.low[:, :, None], q.high[:, :, None]), Bounds(k.low[:, None], k.high[:, None])


def _meet(q: Bounds, k: Bounds) -> Tensor:
    """Some value may be in both."""
    return (k.low <= q.high) & (q.low <= k.high)


def _all_one(q: Bounds, k: Bounds) -> Tensor:
    """There is one value alone, in both."""
    return (q.low == q.high) & (k.low == q.low) & (k.high == q.low)


def _blocks(values: Shaped[Tensor, "#B N"], behind: int) -> Shaped[Tensor, "#B blocks BLOCK"]:
    return F.pad(values, (0, -values.shape[1] % BLOCK), value=behind).unflatten(1, (-1, BLOCK))
