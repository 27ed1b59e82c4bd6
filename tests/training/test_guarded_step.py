"""Steps that are left out on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mmtx.batch import Batch
from mmtx.training.guarded_step import guarded, is_guarded
from mmtx.training.host_copy import HostCopy
from mmtx.training.nonfinite import OpenStep

FUSED: list[Callable[..., Optimizer]] = [AdamW, Adam, SGD]


def made(optimizer: Callable[..., Optimizer], dtype: torch.dtype, **keys: Any) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2).to(dtype)
    more = {"momentum": 0.9} if optimizer is SGD else {}
    return module, optimizer(module.parameters(), lr=0.1, weight_decay=0.1, **more, **keys)


def step(module: nn.Module, optimizer: Optimizer, scale: float, left_out: float | None = None) -> None:
    optimizer.zero_grad()
    (module(torch.ones(1, 3, dtype=next(module.parameters()).dtype)).square().sum() * scale).backward()
    if left_out is None:
        optimizer.step()
    else:
        with guarded(optimizer, torch.tensor(left_out)):
            optimizer.step()


def state_of(module: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return copy.deepcopy([*module.state_dict().values(), *states])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", FUSED)
def test_a_step_that_is_left_out_changes_nothing(optimizer: Callable[..., Optimizer], dtype: torch.dtype) -> None:
    """Neither weights, which are decayed too, nor momentum, nor the count of steps; the others are as without it."""
    mine, theirs = made(optimizer, dtype, fused=True), made(optimizer, dtype, fused=True)
    step(*mine, scale=1.0, left_out=0.0)
    before = state_of(*mine)
    step(*mine, scale=float("nan"), left_out=1.0)
    assert len(before) > 2 and all(map(torch.equal, state_of(*mine), before))
    step(*mine, scale=2.0, left_out=0.0)
    for scale in (1.0, 2.0):
        step(*theirs, scale=scale)
    assert all(map(torch.equal, state_of(*mine), state_of(*theirs)))


def test_a_first_step_may_be_left_out() -> None:
    mine, theirs = made(AdamW, torch.float32, fused=True), made(AdamW, torch.float32, fused=True)
    step(*mine, scale=float("inf"), left_out=1.0)
    for module, optimizer in (mine, theirs):
        step(module, optimizer, scale=1.0)
    assert all(map(torch.equal, state_of(*mine), state_of(*theirs)))


def test_other_optimisers_have_to_wait() -> None:
    assert is_guarded(made(AdamW, torch.float32, fused=True)[1])
    assert not is_guarded(made(AdamW, torch.float32, foreach=True)[1])


@pytest.mark.parametrize(
    ("loss", "norm", "left_out"),
    [(1.0, 2.0, 0), (float("nan"), 2.0, 1), (1.0, float("inf"), 1), (float("-inf"), float("nan"), 1)],
)
def test_the_device_and_the_host_decide_alike(loss: float, norm: float, left_out: int) -> None:
    batches: list[Batch] = []
    judged = OpenStep(7, HostCopy(torch.tensor([loss, norm, 3.0, 0.0])), torch.tensor([loss]), batches)
    assert judged.left_out.dtype == torch.float32 and int(judged.left_out) == left_out
    assert judged.counts is not bool(left_out)
