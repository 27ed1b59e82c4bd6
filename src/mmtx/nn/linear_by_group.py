"""Linear maps of which each group of rows has its own, without padding and without products of other groups.

Axes: T rows, sorted by group; E groups.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

SINGLE_KERNEL = (9, 10)
"""Generations of GPUs that have one kernel for the products of all groups (Hopper, Blackwell), in bfloat16."""

ALIGNED = 8
"""Numbers of bfloat16 in the 16 bytes that this kernel reads at once."""


class LinearByGroup(nn.Module):
    """A linear map for each of E groups, in one weight ``(E, out, in)`` and one bias ``(E, out)``."""

    roles = {"weight": "matrix", "bias": "bias"}

    def __init__(self, num_groups: int, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(num_groups, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_groups, out_features)) if bias else None
        nn.init.normal_(self.weight, std=in_features**-0.5)

    def forward(self, x: Float[Tensor, "T in"], counts: Int[Tensor, " E"]) -> Float[Tensor, "T out"]:
        """Rows behind the last group become zero.

        Args:
            x: first the rows of the first group.
            counts: rows of each group.
        """
        return products_by_group(x, self.weight, self.bias, counts)

    def of_every_group(self, x: Float[Tensor, "*E T in"]) -> Float[Tensor, "E T out"]:
        """Every row by the map of every group.

        Args:
            x: the same rows for all groups, or rows of each.
        """
        y = x @ self.weight.mT
        return y if self.bias is None else y + self.bias[:, None]


def products_by_group(
    x: Float[Tensor, "T in"],
    weight: Float[Tensor, "E out in"],
    bias: Float[Tensor, "E out"] | None,
    counts: Int[Tensor, " E"],
) -> Float[Tensor, "T out"]:
    """Each row by the weight of its group; rows behind the last group become zero."""
    mixed = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if mixed else weight.dtype
    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if has_single_kernel(x.device, x.dtype) and not (x.shape[1] % ALIGNED or weight.shape[1] % ALIGNED):
        return in_one_kernel(x, weight, bias, counts)
    result: Tensor = _products(x, weight, bias, counts)
    return result


def has_single_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a GPU computes all groups at once. Otherwise the host reads how many rows each group has."""
    is_there = device.type == "cuda" and hasattr(F, "grouped_mm") and dtype == torch.bfloat16
    return is_there and torch.cuda.get_device_capability(device)[0] in SINGLE_KERNEL


def in_one_kernel(
    x: Float[Tensor, "T in"],
    weight: Float[Tensor, "E out in"],
    bias: Float[Tensor, "E out"] | None,
    counts: Int[Tensor, " E"],
) -> Float[Tensor, "T out"]:
    """All groups at once. The kernel leaves rows behind the last group as its memory was found, their gradients too:
    those of `x` are masked on the way back."""
    ends = counts.cumsum(0, dtype=torch.int32)
    row = torch.arange(len(x), device=x.device)
    behind = (row >= ends[-1])[:, None]
    y = F.grouped_mm(x.masked_fill(behind, 0), weight.mT, offs=ends)
    if bias is not None:
        group = torch.searchsorted(ends, row, right=True).clamp(max=len(bias) - 1)
        y = y + bias[group]
    return y.masked_fill(behind, 0)


@torch.library.custom_op("mmtx::products_by_group", mutates_args=())
def _products(x: Tensor, weight: Tensor, bias: Tensor | None, counts: Tensor) -> Tensor:
    """Group by group: one operation to the compiler, which cannot know how many rows each has."""
    y, end = x.new_empty(len(x), weight.shape[1]), 0
    for group, rows in _slices(counts):
        end = rows.stop
        if bias is None:
            torch.mm(x[rows], weight[group].t(), out=y[rows])
        else:
            torch.addmm(bias[group], x[rows], weight[group].t(), out=y[rows])
    y[end:] = 0
    return y


@torch.library.custom_op("mmtx::weight_gradient_by_group", mutates_args=())
def _weight_gradient(gradient: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    by_weight = x.new_empty(len(counts), gradient.shape[1], x.shape[1])
    for group, rows in _slices(counts):
        torch.mm(gradient[rows].t(), x[rows], out=by_weight[group])
    return by_weight


@torch.library.custom_op("mmtx::sums_by_group", mutates_args=())
def _sums(gradient: Tensor, counts: Tensor) -> Tensor:
    by_bias = gradient.new_empty(len(counts), gradient.shape[1])
    for group, rows in _slices(counts):
        torch.sum(gradient[rows], 0, out=by_bias[group])
    return by_bias


def _slices(counts: Tensor) -> Iterator[tuple[int, slice]]:
    start = 0
    for group, count in enumerate(counts.tolist()):
        yield group, slice(start, start + count)
        start += count


@_products.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, counts: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@_weight_gradient.register_fake
def _(gradient: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    return x.new_empty(counts.shape[0], gradient.shape[1], x.shape[1])


@_sums.register_fake
def _(gradient: Tensor, counts: Tensor) -> Tensor:
    return gradient.new_empty(counts.shape[0], gradient.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, counts = inputs
    ctx.save_for_backward(x, weight, counts)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, counts = ctx.saved_tensors
    by_x, by_weight, by_bias, _ = ctx.needs_input_grad
    return (
        _products(gradient, weight.mT, None, counts) if by_x else None,
        _weight_gradient(gradient, x, counts) if by_weight else None,
        _sums(gradient, counts) if by_bias else None,
        None,
    )


_products.register_autograd(_differentiate, setup_context=_keep)
