"""The integers that the rule reads, and the rule over them, whatever their shapes. Axes as in `rule`."""

from collections.abc import Callable
from typing import NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor


class Integers(NamedTuple):
    """What the rule reads of the tokens on one of its sides, in tensors that broadcast, often ``(#B, N)``.

    Attributes:
        order: a token attends to tokens of the same order, and to those of lower order that are not private.
        place: in the row, by which a token attends to itself; None: the other side is another set.
        axes: coordinates, which windows read, one tensor for each axis.
        segment: which sample of a packed row a token belongs to; None: all are of one.
        valid: the token is real; None: all are.
        private: only tokens of its own order attend to the token; None: none is.
    """

    order: Tensor
    place: Tensor | None = None
    axes: tuple[Tensor, ...] = ()
    segment: Tensor | None = None
    valid: Tensor | None = None
    private: Tensor | None = None

    @property
    def rows(self) -> int:
        """B, or 1 where all rows agree."""
        return max(part.shape[0] for part in (*self, *self.axes) if isinstance(part, Tensor))

    @no_type_check  # FlexAttention traces it, and nothing may be wrapped around
    def map(self, of: Callable[[Tensor], Tensor]) -> "Integers":
        """The same of other tokens: each tensor as `of` makes it."""
        order, place, axes, *others = self
        same = [None if part is None else of(part) for part in (place, *others)]
        return Integers(of(order), same[0], tuple(of(axis) for axis in axes), *same[1:])

    def padded(self, block: int) -> "Integers":
        """Rows of whole blocks: what is put behind them is not valid, and attends to itself."""
        length = self.order.shape[1]
        missing = -length % block
        if not missing:
            return self
        valid = torch.ones_like(self.order[:1], dtype=torch.bool) if self.valid is None else self.valid
        made = self._replace(valid=valid).map(lambda part: F.pad(part, (0, missing)))
        behind = torch.arange(length + missing, device=self.order.device)
        return made if self.place is None else made._replace(place=self.place[:, :1] + behind)


@no_type_check  # as above
def allowed(query: Integers, key: Integers, window: int | None = None) -> Tensor:
    """Where a query may attend to a key, in the shape that both broadcast to."""
    attends = key.order <= query.order
    if key.private is not None:
        attends = attends & (~key.private | (key.order == query.order))
    if key.valid is not None:
        attends = attends & key.valid
    if key.segment is not None:
        attends = attends & (key.segment == query.segment)
    if window is not None:
        for at, other in zip(query.axes, key.axes, strict=True):
            attends = attends & (other > at - window) & (other < at + window)
    return attends if key.place is None else attends | (key.place == query.place)
