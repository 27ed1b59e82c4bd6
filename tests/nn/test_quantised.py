"""Frozen weights in fewer bits, under low-rank updates that learn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("torchao")

from mmtx.errors import InvalidValue  # noqa: E402
from mmtx.nn.linear_by_group import LinearByGroup  # noqa: E402
from mmtx.nn.low_rank import LoRA  # noqa: E402
from mmtx.nn.low_rank_update import merge_updates, original_of, updates_of  # noqa: E402
from mmtx.nn.quantised import quantised, store, stored_parts  # noqa: E402
from mmtx.nn.stacked_linear import StackedLinear  # noqa: E402

LEVELS = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
LEVELS += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1]
"""Of NF4: appendix E of arXiv 2305.14314, to four digits."""


def made(bits: str | None, kind: str = "linear", **settings: object) -> nn.Module:
    torch.manual_seed(0)
    linear = LinearByGroup(2, 64, 32, bias=False) if kind == "experts" else StackedLinear(64, 32)
    whole = nn.Sequential(linear)
    LoRA(rank=2, alpha=4.0, targets=["0"], quantised=bits, **settings).add(whole)  # type: ignore[arg-type]
    return linear


@pytest.mark.parametrize("kind", ["linear", "experts"])
def test_int8_by_arithmetic(kind: str) -> None:
    weight, got = original_of(made(None, kind)).detach(), original_of(made("int8", kind))
    scale = weight.abs().amax(-1, keepdim=True) / 127.5
    assert ((got - weight).abs() <= scale * 0.51 + 1e-6).all()
    assert ((got / scale).round().unique().numel()) > 200


def test_nf4_by_arithmetic() -> None:
    """Each number is the nearest level of its 64, but for the rounding of the scales."""
    weight, got = original_of(made(None)).detach().view(-1, 64), original_of(made("nf4")).view(-1, 64)
    scale = weight.abs().amax(1, keepdim=True)
    levels = torch.tensor(LEVELS)
    nearest = levels[(weight / scale)[..., None].sub(levels).abs().argmin(-1)] * scale
    assert (got - nearest).abs().max() < 0.02 * scale.max()


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_updates_learn_over_it(bits: str, magnitudes: bool) -> None:
    linear = made(bits, magnitudes=magnitudes, dropout=0.1)
    assert {name.rpartition(".")[2] for name, p in linear.named_parameters() if p.requires_grad} == (
        {"down", "up", "bias"} | ({"magnitude"} if magnitudes else set())
    )
    (update,) = updates_of(linear)
    before, frozen = {k: v.clone() for k, v in stored_parts(linear).items()}, original_of(linear)
    nn.init.normal_(update.up)
    x = torch.randn(3, 64, requires_grad=True)
    linear.eval()(x).square().sum().backward()
    assert x.grad is not None and update.up.grad is not None and update.up.grad.any()
    assert all(torch.equal(before[key], value) for key, value in stored_parts(linear).items())
    assert sum(each.numel() * each.element_size() for each in before.values()) < frozen.numel() * 4 * 0.3
    again = made(bits, magnitudes=magnitudes)
    again.load_state_dict(linear.state_dict())
    assert torch.equal(again(x), linear(x))
    merged = copy.deepcopy(linear)
    merge_updates(nn.Sequential(merged))
    assert merged.state_dict().keys() == {"weight", "bias"}
    torch.testing.assert_close(merged(x), linear(x), atol=1e-6, rtol=1e-6)


def test_other_weights_are_stored_anew() -> None:
    linear, weight = made("int8"), torch.randn(32, 64)
    store(linear, weight)
    assert quantised(linear) is not None and (original_of(linear) - weight).norm() < 0.01 * weight.norm()


def test_sizes_of_nf4() -> None:
    with pytest.raises(InvalidValue, match=r"quantised=nf4 needs weights of a multiple of 64 numbers, not \[3, 5\]"):
        LoRA(rank=1, alpha=1.0, targets=["0"], quantised="nf4").add(nn.Sequential(nn.Linear(5, 3)))
