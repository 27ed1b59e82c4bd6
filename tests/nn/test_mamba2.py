"""Mamba 2 against that of transformers, with weights copied, and its chunks against a loop over tokens."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from builders import backbone, layer_context
from torch import Tensor, nn

from mmtx.errors import InvalidValue
from mmtx.nn.mamba2 import Mamba2, by_chunks


def made(chunk_size: int = 4, num_groups: int = 1) -> Mamba2:
    mixer = Mamba2(12, 4, expansion=2.0, state_dim=5, chunk_size=chunk_size, num_groups=num_groups)
    for name in ("skip", "norm.weight", "conv.conv.bias"):
        nn.init.normal_(mixer.get_parameter(name))
    return mixer


@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_it_is_that_of_transformers(num_groups: int) -> None:
    mamba2 = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    heads = {"num_heads": 4, "head_dim": 6, "n_groups": num_groups}
    config = mamba2.Mamba2Config(hidden_size=12, expand=2, **heads, state_size=5, chunk_size=4, num_hidden_layers=1)
    own, theirs = made(num_groups=num_groups), mamba2.Mamba2Mixer(config, layer_idx=0).eval()
    state = own.state_dict()
    names = {
        "in_proj.weight": "into.weight",
        "conv1d.weight": "conv.conv.weight",
        "conv1d.bias": "conv.conv.bias",
        "dt_bias": "decay.bias",
        "A_log": "decay.log_rate",
        "D": "skip",
        "norm.weight": "norm.weight",
        "out_proj.weight": "out.weight",
    }
    theirs.load_state_dict({name: state[mine] for name, mine in names.items()})
    x = torch.randn(2, 11, 12)
    torch.testing.assert_close(own(x, layer_context(length=11)), theirs(x), atol=1e-5, rtol=1e-5)


def one_by_one(value: Tensor, keep: Tensor, write: Tensor, read: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Of four heads in two groups, each of which writes and reads what is its own."""
    outputs, groups = [], [0, 0, 1, 1]
    for t in range(value.shape[1]):
        state = keep[:, t].exp()[..., None, None] * state + value[:, t, ..., None] * write[:, t, groups, None]
        outputs.append((state * read[:, t, groups, None]).sum(-1))
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("chunk_size", [1, 3, 11, 64])
def test_chunks_are_the_recurrence(chunk_size: int) -> None:
    """Gradients too, from a state of zero and from another."""
    shapes = {
        "value": (2, 11, 4, 3),
        "keep": (2, 11, 4),
        "write": (2, 11, 2, 5),
        "read": (2, 11, 2, 5),
        "state": (2, 4, 3, 5),
    }
    parts = {name: torch.randn(shape, dtype=torch.double) for name, shape in shapes.items()}
    parts["keep"] = -parts["keep"].abs()
    for scale in (0.0, 1.0):
        parts["state"] = parts["state"] * scale
        found = []
        for form in (partial(by_chunks, chunk_size=chunk_size), one_by_one):
            inputs = [part.clone().requires_grad_() for part in parts.values()]
            y, after = form(*inputs)
            gradients = torch.autograd.grad(y.square().sum() + after.square().sum(), inputs)
            found.append((y, after, *gradients))
        torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-10)


def test_the_size_of_chunks_changes_nothing_of_a_layer() -> None:
    own, x = made(chunk_size=3).double(), torch.randn(2, 11, 12, dtype=torch.double)
    expected = own(x, layer_context(length=11))
    own.chunk_size = 64
    torch.testing.assert_close(own(x, layer_context(length=11)), expected, atol=1e-10, rtol=1e-10)


def test_steps_and_rates_begin_where_published_also_in_a_stack() -> None:
    make = partial(Mamba2, expansion=2.0, state_dim=4, chunk_size=64)
    decay = backbone(attention=make).blocks[0].mixer.decay
    step, rate = torch.nn.functional.softplus(decay.bias), decay.log_rate.exp()
    assert step.min() >= 0.00099 and step.max() <= 0.101 and rate.min() >= 1 and rate.max() <= 16


def test_groups_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^attention.num_groups=3 does not divide num_heads=4"):
        backbone(num_heads=4, attention=partial(Mamba2, expansion=2.0, state_dim=4, chunk_size=64, num_groups=3))


def test_features_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^attention.expansion=1.25 gives 30 features for num_heads=4"):
        backbone(num_heads=4, attention=partial(Mamba2, expansion=1.25, state_dim=4, chunk_size=64))
