"""The feed-forward half against its formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from builders import mlp
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.nn.mlp import ClampedSwiGLU, QuickGELU, SquaredReLU


def test_plain() -> None:
    module = mlp(activation=nn.GELU(), expansion=4.0)(8)
    x = torch.randn(2, 3, 8)
    expected = F.gelu(x @ module.up.weight.T + module.up.bias) @ module.down.weight.T + module.down.bias
    torch.testing.assert_close(module(x), expected)


def test_swiglu() -> None:
    """SiLU of the gate times the value, with the usual 8/3 that keeps the number of parameters."""
    module = mlp(activation=nn.SiLU(), expansion=8 / 3, gated=True, bias=False)(24)
    gate, value = module.up.weight.chunk(2)
    assert gate.shape == (64, 24)
    assert module.up.bias is None
    assert module.down.bias is None
    x = torch.randn(2, 3, 24)
    expected = ((x @ gate.T) * torch.sigmoid(x @ gate.T) * (x @ value.T)) @ module.down.weight.T
    torch.testing.assert_close(module(x), expected)
    assert sum(p.numel() for p in module.parameters()) == 2 * 4 * 24 * 24


@pytest.mark.parametrize(
    ("dim", "expansion", "hidden"), [(8, 4.0, 32), (10, 8 / 3, 24), (100, 8 / 3, 264), (2, 1.0, 8)]
)
def test_hidden_width_is_a_multiple_of_eight(dim: int, expansion: float, hidden: int) -> None:
    assert mlp(expansion=expansion)(dim).down.in_features == hidden


def test_squared_relu() -> None:
    assert SquaredReLU()(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 9.0]


def test_quick_gelu() -> None:
    """Within 0.021 of GELU, and 1 / (1 + e^-1.702) at 1."""
    x = torch.linspace(-4, 4, 81)
    assert (QuickGELU()(x) - torch.nn.functional.gelu(x)).abs().max() < 0.021
    assert QuickGELU()(torch.tensor(1.0)).item() == pytest.approx(0.845796, abs=1e-6)


def test_a_gate_and_a_value_that_are_limited() -> None:
    """``gate σ(1.702 gate) (value + 1)``, each beyond a limit once."""
    gate, value = torch.tensor([9.0, -9.0, 2.0, 2.0, 2.0]), torch.tensor([0.5, 0.5, 9.0, -9.0, 1.0])
    limited, within = torch.tensor([7.0, -9.0, 2.0, 2.0, 2.0]), torch.tensor([0.5, 0.5, 7.0, -7.0, 1.0])
    expected = limited / (1 + torch.exp(-1.702 * limited)) * (within + 1)
    clamped = ClampedSwiGLU(alpha=1.702, limit=7.0)
    torch.testing.assert_close(clamped(gate, value), expected)
    module = mlp(activation=clamped, gated=True)(8)
    x = torch.randn(1, 2, 8)
    torch.testing.assert_close(module(x), module.down(clamped(*module.up(x).chunk(2, dim=-1))))
    with pytest.raises(InvalidValue, match="gated=False gives ClampedSwiGLU no value beside the gate"):
        mlp(activation=clamped)(8)
    with pytest.raises(InvalidValue, match="limit=-1.0 must be at least 0"):
        ClampedSwiGLU(alpha=1.0, limit=-1.0)


def test_dropout_of_what_the_second_map_reads() -> None:
    """A feature is left out or counts twice, in training alone."""
    module = mlp(dropout=0.5, expansion=1.0, bias=False)(64)
    with torch.no_grad():
        module.down.weight.copy_(torch.eye(64))
    x = torch.randn(1, 1, 64)
    hidden = F.gelu(module.up(x))
    share = module.train()(x) / hidden
    assert {*share.detach().round(decimals=3).flatten().tolist()} == {0.0, 2.0}
    torch.testing.assert_close(module.eval()(x), hidden)
    with pytest.raises(InvalidValue, match=r"dropout=1.0 must lie in \[0, 1\)"):
        mlp(dropout=1.0)(8)
