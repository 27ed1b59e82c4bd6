"""Diagonal state spaces: the convolution against the recurrence that it unrolls, and what S4D-Lin begins with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from builders import backbone, layer_context
from torch import Tensor

from mmtx.nn.s4d import S4D
from mmtx.training.parameter_groups import groups_by_role


def recurred(mixer: S4D, x: Tensor) -> Tensor:
    """Inputs held over a step, token by token: ``h = exp(dt A) h + (exp(dt A) - 1) / A x`` (section 3.1)."""
    pole = torch.complex(-mixer.log_decay.exp(), mixer.frequency)
    kept = torch.exp(mixer.log_step.exp()[:, None] * pole)
    state, outputs = torch.zeros(len(x), *pole.shape, dtype=pole.dtype), []
    for token in x.unbind(1):
        state = kept * state + (kept - 1) / pole * token[..., None]
        read = 2 * (torch.view_as_complex(mixer.read) * state).sum(-1).real
        outputs.append(F.glu(mixer.out(F.gelu(read + mixer.skip * token)), dim=-1))
    return torch.stack(outputs, 1)


def test_the_convolution_is_the_recurrence() -> None:
    """Gradients too."""
    mixer, x = S4D(4, 2, state_dim=8).double(), torch.randn(2, 33, 4, dtype=torch.double)
    own, expected = mixer(x, layer_context(length=33)), recurred(mixer, x)
    torch.testing.assert_close(own, expected, atol=1e-10, rtol=1e-10)
    found = [torch.autograd.grad(y.square().sum(), [*mixer.parameters()]) for y in (own, expected)]
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-10)


def test_it_begins_as_published_and_stays_so_in_a_stack() -> None:
    mixer = backbone(attention=lambda dim, heads: S4D(dim, heads, state_dim=6)).blocks[0].mixer
    torch.testing.assert_close(mixer.log_decay.exp(), torch.full((24, 3), 0.5))
    torch.testing.assert_close(mixer.frequency[0] / math.pi, torch.tensor([0.0, 1.0, 2.0]))
    assert mixer.log_step.exp().min() >= 0.001 and mixer.log_step.exp().max() <= 0.1


def test_steps_and_poles_learn_at_a_rate_of_their_own_without_decay() -> None:
    groups = {group["role"]: group for group in groups_by_role(S4D(4, 2, state_dim=8), 0.01, {"state": 0.1}, 0.1)}
    assert [p.shape for p in groups["state"]["params"]] == [(4,), (4, 4), (4, 4)]
    assert (groups["state"]["lr"], groups["state"]["weight_decay"]) == (0.001, 0.0)
    assert groups["matrix"]["weight_decay"] == 0.1


def test_half_precision_is_computed_in_float32() -> None:
    """Of 500 tokens, the outputs are as far from those of float32 as bfloat16 rounds."""
    mixer, x = S4D(4, 2, state_dim=8), torch.randn(1, 500, 4).bfloat16().float()
    exact = mixer(x, layer_context(length=500))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(x, layer_context(length=500))
    torch.testing.assert_close(rounded.float(), exact, atol=3e-2, rtol=3e-2)
