"""A low-rank update of a weight, as a parametrisation of it: no module knows of the updates of its weights."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmtx.nn.linear_by_group import LinearByGroup, products_by_group
from mmtx.nn.quantised import quantised, stored_parts
from mmtx.nn.stacked_linear import ALL

LINEAR = (nn.Linear, LinearByGroup)


class LowRank(nn.Module):
    """A weight plus the product of two small ones; of experts, two for each.

    Args:
        weight: that is updated.
        rank: of the product.
        scale: of the product.
        rows: of the weight that are updated, of which the others stay.
        magnitude: each row has a length that is learnt by itself, at first its own (DoRA).
        dropout: of what the update is applied to, while it is trained.
    """

    roles = {"down": "update", "up": "update", "magnitude": "gain"}

    def __init__(
        self,
        weight: Float[Tensor, "*E out in"],
        rank: int,
        scale: float,
        rows: slice = ALL,
        magnitude: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale, self.rows, self.dropout = scale, rows, dropout
        *groups, out_features, in_features = weight[..., rows, :].shape
        self.down = nn.Parameter(torch.randn(*groups, rank, in_features) * in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(*groups, out_features, rank))
        self.magnitude = nn.Parameter(torch.empty(*groups, out_features)) if magnitude else None
        self.measure(weight)

    @torch.no_grad()
    def measure(self, weight: Float[Tensor, "*E out in"]) -> None:
        """Takes the lengths of rows from a weight, so that an update of zero changes nothing."""
        if self.magnitude is not None:
            self.magnitude.copy_(weight[..., self.rows, :].norm(dim=-1))

    def forward(self, weight: Float[Tensor, "*E out in"]) -> Float[Tensor, "*E out in"]:
        if self.rows == ALL:
            return self._updated(weight)
        above, below = weight[..., : self.rows.start, :], weight[..., self.rows.stop :, :]
        return torch.cat([above, self._updated(weight[..., self.rows, :]), below], dim=-2)

    def _updated(self, weight: Float[Tensor, "*E rows in"]) -> Float[Tensor, "*E rows in"]:
        updated = weight + self.scale * (self.up @ self.down)
        if self.magnitude is None:
            return updated
        length = updated.detach().norm(dim=-1)  # constant to the gradient: section 4.3 of arXiv 2402.09353
        return (self.magnitude / length.clamp(min=torch.finfo(length.dtype).tiny))[..., None] * updated


def add_update(linear: nn.Module, update: LowRank) -> None:
    """Makes an update part of a linear map, whose own weight is frozen."""
    if not updates_of(linear):
        linear.register_forward_hook(_drop, with_kwargs=True)
    if not parametrize.is_parametrized(linear, "weight"):
        linear.get_parameter("weight").requires_grad_(False)
    parametrize.register_parametrization(linear, "weight", update)


def updates_of(linear: nn.Module) -> list[LowRank]:
    """The updates of a linear map's weight."""
    if not isinstance(linear, LINEAR) or not parametrize.is_parametrized(linear, "weight"):
        return []
    return [each for each in linear.get_submodule("parametrizations.weight").children() if isinstance(each, LowRank)]


def merge_updates(module: nn.Module) -> None:
    """Adds every update to its weight, in place.

    torch's own `remove_parametrizations` would also take the weight from the class, which copies of a module share.
    """
    for child in module.modules():
        if updates_of(child):
            assert isinstance(child, LINEAR)
            merged = child.weight.detach()
            child.__class__ = parametrize.type_before_parametrizations(child)
            del child.parametrizations
            child.weight = nn.Parameter(merged, requires_grad=False)


def measure_magnitudes(module: nn.Module) -> None:
    """Takes the lengths of rows from weights that are others now; updates are to be zero."""
    for child in module.modules():
        for update in updates_of(child):
            update.measure(original_of(child))


def original_of(linear: nn.Module) -> Tensor:
    """The weight of a linear map without its updates."""
    in_fewer_bits = quantised(linear)
    if in_fewer_bits is not None:
        whole: Tensor = in_fewer_bits(*stored_parts(linear).values())
        return whole
    is_updated = parametrize.is_parametrized(linear, "weight")
    return linear.get_parameter("parametrizations.weight.original" if is_updated else "weight")


def _drop(linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    """The output of a linear map whose updates were applied to dropped features, each to its own: what an update adds
    to the weight times what dropout adds to the features is all that differs."""
    if not linear.training:
        return output
    x, *more = args
    for update in updates_of(linear):
        if update.dropout:
            frozen = original_of(linear)
            added, difference = update(frozen) - frozen, F.dropout(x, update.dropout) - x
            if isinstance(linear, LinearByGroup):
                output = output + products_by_group(difference, added, None, *more)
            else:
                output = output + F.linear(difference, added[_rows(args, kwargs)])
    return output


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> slice:
    """The rows of a `StackedLinear` that were applied."""
    rows: slice = args[2] if len(args) > 2 else kwargs.get("rows", ALL)
    return rows
