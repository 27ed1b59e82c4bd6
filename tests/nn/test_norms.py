"""Normalisations against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmtx.nn.norms import GroupedRMSNorm, LayerNorm, RMSNorm


def test_rms_norm_equals_torch() -> None:
    ours, theirs = RMSNorm(16, eps=1e-5), nn.RMSNorm(16, eps=1e-5)
    with torch.no_grad():
        ours.weight.normal_()
        theirs.weight.copy_(ours.weight)
    x = torch.randn(2, 3, 16, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    torch.testing.assert_close(ours(x), theirs(y))
    ours(x).sum().backward()
    theirs(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_rms_norm_is_computed_in_float32() -> None:
    """Squares of hundreds, summed over the width, are beyond float16."""
    x = torch.randn(4, 512).half() * 100
    ours = RMSNorm(512, eps=1e-6).half()
    expected = nn.RMSNorm(512, eps=1e-6)(x.float())
    assert ours(x).dtype == torch.half
    torch.testing.assert_close(ours(x).float(), expected, atol=1e-2, rtol=1e-2)


def test_layer_norm() -> None:
    x = torch.randn(2, 3, 16) * 5 + 2
    with_bias, without = LayerNorm(16, eps=1e-12, bias=True), LayerNorm(16, eps=1e-12, bias=False)
    assert without.bias is None
    assert with_bias.bias is not None
    expected = (x - x.mean(-1, keepdim=True)) / x.var(-1, correction=0, keepdim=True).sqrt()
    torch.testing.assert_close(with_bias(x), expected)
    torch.testing.assert_close(without(x), expected)


@pytest.mark.parametrize("num_groups", [1, 3])
def test_groups_are_normalised_each_by_itself(num_groups: int) -> None:
    ours, x = GroupedRMSNorm(12, num_groups, eps=1e-5), torch.randn(2, 5, 12)
    torch.nn.init.normal_(ours.weight)
    groups = [part / (part.square().mean(-1, keepdim=True) + 1e-5).sqrt() for part in x.chunk(num_groups, -1)]
    torch.testing.assert_close(ours(x), torch.cat(groups, -1) * ours.weight)
