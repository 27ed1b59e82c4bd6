"""Scores within ±cap, by every kernel, against the formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmtx.attention.flex import Flex
from mmtx.attention.kernels import SoftCapped
from mmtx.attention.rule import Connectivity, Pattern

CAP, LENGTH = 0.7, 6


def causal(**changes: Any) -> Connectivity:
    index = torch.arange(LENGTH)[None]
    zeros, real = torch.zeros_like(index), torch.ones_like(index, dtype=torch.bool)
    position = torch.stack([index, zeros, zeros], dim=-1)
    made = Connectivity(index, position, zeros, real, Pattern.CAUSAL, padded=False, packed=False)
    return replace(made, **changes)


def by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | None) -> Tensor:
    k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
    scores = CAP * (q @ k.transpose(-1, -2) / 2 / CAP).tanh()
    scores = scores if bias is None else scores + bias
    return scores.masked_fill(~allowed[:, None], float("-inf")).softmax(-1) @ v


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("flex", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@torch.no_grad()
def test_every_kernel_keeps_scores_within_a_cap(window: int | None, flex: bool, has_bias: bool) -> None:
    torch.manual_seed(0)
    connectivity = causal()
    rendering = connectivity.render(window, flex=flex, softcap=CAP)
    assert isinstance(rendering, Flex if flex else SoftCapped)
    q, k, v = 3 * torch.randn(2, 4, LENGTH, 4), torch.randn(2, 2, LENGTH, 4), torch.randn(2, 2, LENGTH, 4)
    bias = torch.randn(1, 4, LENGTH, LENGTH) if has_bias else None
    expected = by_hand(q, k, v, connectivity.reference(window), bias)
    torch.testing.assert_close(rendering.attend(q, k, v, bias=bias), expected)


def test_a_cache_may_have_room_for_more_keys() -> None:
    torch.manual_seed(0)
    rendering = causal(column=torch.tensor([3])).render(softcap=CAP)
    q, k, v = torch.randn(2, 4, 1, 4), torch.randn(2, 2, 16, 4), torch.randn(2, 2, 16, 4)
    expected = by_hand(q, k[:, :, :4], v[:, :, :4], torch.ones(1, 1, 4, dtype=torch.bool), None)
    torch.testing.assert_close(rendering.attend(q, k, v), expected)
