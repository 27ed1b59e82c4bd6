"""Minimal recurrences against a loop over tokens, and in reach of what float32 holds; against their package where it is
installed: ``pip install --no-deps minGRU-pytorch==0.2.1 einops``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import layer_context
from torch import Tensor

from mmtx.nn.min_gru import MinGRU
from mmtx.nn.min_lstm import MinLSTM
from mmtx.nn.min_recurrence import scan


def step_by_step(mixer: Any, x: Tensor) -> Tensor:
    """As algorithms 2 and 4 of arXiv 2410.01201 have it, without logarithms, from a state of zero."""
    candidate, *gates = mixer.into(x).chunk(3 if isinstance(mixer, MinLSTM) else 2, dim=-1)
    candidate = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
    first, last = gates[0].sigmoid(), gates[-1].sigmoid()
    keep, take = (first / (first + last), last / (first + last)) if len(gates) == 2 else (1 - first, first)
    state, states = torch.zeros_like(candidate[:, 0]), []
    for t in range(x.shape[1]):
        state = keep[:, t] * state + take[:, t] * candidate[:, t]
        states.append(mixer.out(state))
    return torch.stack(states, 1)


@pytest.mark.parametrize("kind", [MinGRU, MinLSTM])
@pytest.mark.parametrize("expansion", [1.0, 1.5])
def test_all_at_once_is_one_after_the_other(kind: Any, expansion: float) -> None:
    mixer, x = kind(6, 2, expansion=expansion).double(), torch.randn(2, 40, 6, dtype=torch.double)
    assert mixer.out.in_features == 6 * expansion
    own, expected = mixer(x, layer_context(length=40)), step_by_step(mixer, x)
    torch.testing.assert_close(own, expected, atol=1e-10, rtol=1e-10)
    found = [torch.autograd.grad(y.square().sum(), [*mixer.parameters()]) for y in (own, expected)]
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("kind", "name"), [(MinGRU, "to_hidden_and_gate"), (MinLSTM, "to_hidden_and_f_i_gate")])
def test_it_is_that_of_the_package(kind: Any, name: str) -> None:
    peer_name = kind.__name__.replace("M", "m", 1)
    peer = pytest.importorskip(f"minGRU_pytorch.{peer_name}")
    own, x = kind(6, 2, expansion=1.5), torch.randn(3, 50, 6)
    theirs = getattr(peer, peer_name)(6, expansion_factor=1.5)
    state = own.state_dict()
    theirs.load_state_dict({f"{name}.weight": state["into.weight"], "to_out.weight": state["out.weight"]})
    torch.testing.assert_close(own(x, layer_context(length=50)), theirs(x), atol=1e-5, rtol=1e-5)
    own, theirs, x = own.double(), theirs.double(), x.double()
    torch.testing.assert_close(own(x, layer_context(length=50)), theirs(x), atol=1e-10, rtol=1e-10)


def test_long_rows_and_saturated_gates_stay_finite() -> None:
    """Of 4,000 tokens that keep all or nothing, the state is the newest that was taken; in float32."""
    keep = torch.full((1, 4000, 1), -1e-6)
    keep[0, ::100] = -60.0
    added = torch.zeros(1, 4000, 1) - 60.0
    added[0, ::100, 0] = torch.arange(40.0).sin()
    expected = torch.arange(40.0).sin().repeat_interleave(100)
    torch.testing.assert_close(scan(keep, added, None)[0, :, 0], expected, atol=2e-3, rtol=0)
