"""Linear maps by group, both ways to compute them, against plain products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtx.nn.linear_by_group import LinearByGroup, in_one_kernel

COUNTS = torch.tensor([3, 0, 5])
"""Rows of three groups; two rows behind belong to none."""


def in_one(module: LinearByGroup) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, counts: in_one_kernel(x, module.weight, module.bias, counts)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("by", ["groups", "one kernel"])
def test_each_row_is_multiplied_by_the_matrix_of_its_group(by: str, bias: bool) -> None:
    torch.manual_seed(0)
    module = LinearByGroup(3, 16, 24, bias=bias)
    own, x = [*module.parameters()], torch.randn(10, 16, requires_grad=True)
    if bias:
        torch.nn.init.normal_(module.bias)
    biases = module.bias if bias else [None] * 3
    rows = [F.linear(x[:3], module.weight[0], biases[0]), F.linear(x[3:8], module.weight[2], biases[2])]
    expected = torch.cat([*rows, torch.zeros(2, 24)])
    found = (module if by == "groups" else in_one(module))(x, COUNTS)
    torch.testing.assert_close(found, expected)
    by_found, by_expected = (torch.autograd.grad(y.square().sum(), [x, *own]) for y in (found, expected))
    torch.testing.assert_close(by_found, by_expected)


def test_rows_that_the_kernel_leaves_as_found_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways: what it gives, and the gradient of what it is given."""

    class Unset(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, end):
            ctx.end = end
            return torch.cat([x[:end], torch.full_like(x[end:], torch.nan)])

        @staticmethod
        def backward(ctx, gradient):
            return Unset.forward(ctx, gradient, ctx.end), None

    plain = F.grouped_mm
    kernel = lambda x, weight, offs: Unset.apply(plain(Unset.apply(x, 8), weight, offs=offs), 8)  # noqa: E731
    monkeypatch.setattr(F, "grouped_mm", kernel)
    module, x = LinearByGroup(3, 16, 24, bias=True), torch.randn(10, 16, requires_grad=True)
    y = in_one(module)(x, COUNTS)
    y.exp().sum().backward()
    for found in (y, x.grad, module.weight.grad, module.bias.grad):
        assert found.isfinite().all()
    assert not y[8:].any() and not x.grad[8:].any()


def test_frozen_weights_get_no_gradient() -> None:
    module, x = LinearByGroup(3, 4, 5, bias=True).requires_grad_(False), torch.randn(8, 4, requires_grad=True)
    module(x, COUNTS).sum().backward()
    assert x.grad.any() and module.weight.grad is None


def test_in_mixed_precision_as_a_linear_map() -> None:
    module, x = LinearByGroup(1, 16, 24, bias=True), torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = module(x, torch.tensor([8])), F.linear(x, module.weight[0], module.bias[0])
    assert found.dtype == torch.bfloat16 and found.equal(expected)
