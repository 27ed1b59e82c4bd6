"""The gated delta rule against that of transformers, with weights copied, and its chunks against a loop over tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import backbone, layer_context
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.nn.gated_delta import GatedDelta, by_chunks


def parts(length: int = 11, negative: bool = False) -> dict[str, Tensor]:
    """Queries and keys of length 1, as the rule gets them."""
    unit, shape = torch.nn.functional.normalize, (2, length, 3, 4)
    q, k, v = unit(torch.randn(shape), dim=-1), unit(torch.randn(shape), dim=-1), torch.randn(shape)
    keep, share = -torch.rand(shape[:3]), torch.rand(shape[:3]) * (2 if negative else 1)
    made = {"q": q, "k": k, "v": v, "keep": keep, "share": share, "state": torch.randn(2, 3, 4, 4)}
    return {name: part.double() for name, part in made.items()}


def one_by_one(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, share: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """``S = keep (I - share k kᵀ) S + share k vᵀ``, equation 10 of arXiv 2412.06464 (its S is ours transposed)."""
    outputs = []
    for t in range(q.shape[1]):
        key, own = k[:, t, ..., None], share[:, t, :, None, None]
        turn = torch.eye(key.shape[2], dtype=q.dtype) - own * key @ key.mT
        state = keep[:, t].exp()[..., None, None] * turn @ state + own * key * v[:, t, :, None]
        outputs.append((q[:, t, :, None] @ state)[..., 0, :])
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_chunks_are_the_recurrence(chunk_size: int, negative: bool) -> None:
    """Gradients too."""
    found = []
    given = parts(negative=negative)
    for form in (partial(by_chunks, chunk_size=chunk_size), one_by_one):
        inputs = [part.clone().requires_grad_() for part in given.values()]
        y, after = form(*inputs)
        gradients = torch.autograd.grad(y.square().sum() + after.square().sum(), inputs)
        found.append((y, after, *gradients))
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("form", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_the_rule_is_that_of_transformers(form: str) -> None:
    peer = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    given = {name: part.float() for name, part in parts(length=70).items()}
    q, k, v, keep, share, state = given.values()
    theirs = getattr(peer, form)(q, k, v, g=keep, beta=share, initial_state=state, output_final_state=True)
    own = by_chunks(q * q.shape[-1] ** -0.5, k, v, keep, share, state, 16)
    torch.testing.assert_close(own, tuple(theirs), atol=1e-5, rtol=1e-5)


def test_a_layer_is_that_of_transformers() -> None:
    """Which lays out its rows head by head."""
    peer = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    heads = {"linear_num_value_heads": 3, "linear_num_key_heads": 3}
    widths = {"linear_key_head_dim": 4, "linear_value_head_dim": 4}
    config = peer.Qwen3NextConfig(hidden_size=12, num_hidden_layers=1, rms_norm_eps=1e-6, **heads, **widths)
    own, theirs = GatedDelta(12, 3, negative=False, chunk_size=4), peer.Qwen3NextGatedDeltaNet(config, 0).eval()
    state = own.state_dict()
    parts = state["into.weight"].split([12, 12, 12, 12, 3, 3])
    by_head = lambda rows: torch.cat([row.unflatten(0, (3, -1)) for row in rows], 1).flatten(0, 1)  # noqa: E731
    theirs.load_state_dict(
        {
            "in_proj_qkvz.weight": by_head(parts[:4]),
            "in_proj_ba.weight": by_head(parts[4:]),
            "conv1d.weight": state["conv.conv.weight"],
            "dt_bias": state["decay.bias"],
            "A_log": state["decay.log_rate"],
            "norm.weight": state["norm.weight"],
            "out_proj.weight": state["out.weight"],
        }
    )
    x = torch.randn(2, 11, 12)
    torch.testing.assert_close(own(x, layer_context(length=11)), theirs(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("negative", "least"), [(False, 0.0), (True, -1.0)])
def test_eigenvalues_are_as_small_as_they_may_be(negative: bool, least: float) -> None:
    """Along a key, of a share as large as it can be and no decay."""
    own = GatedDelta(4, 1, negative=negative, chunk_size=4)
    k, zero, state = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 4), torch.zeros(1, 1, 1), torch.eye(4)[None, None]
    _, after = by_chunks(k, k, torch.zeros(1, 1, 1, 4), zero, zero + own.largest_share, state, 4)
    torch.testing.assert_close(after[0, 0].diagonal(), torch.tensor([least, 1, 1, 1]))


def test_without_decay_a_state_lasts() -> None:
    """As with rates of zero, over 200 tokens; with others it does not."""
    own, decaying = (GatedDelta(8, 2, negative=True, chunk_size=16, decays=keep).double() for keep in (False, True))
    state = own.state_dict()
    into = torch.cat([state.pop("into.weight"), torch.randn(2, 8, dtype=torch.double)])
    rate = {"decay.bias": torch.zeros(2), "decay.log_rate": torch.full((2,), -torch.inf)}
    decaying.load_state_dict({**state, "into.weight": into, **rate})
    x, context = torch.randn(2, 200, 8, dtype=torch.double), layer_context(length=200)
    torch.testing.assert_close(own(x, context), decaying(x, context), atol=1e-12, rtol=1e-12)
    torch.nn.init.zeros_(decaying.decay.log_rate)
    assert (own(x, context) - decaying(x, context)).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    make: Any = partial(GatedDelta, negative=False, chunk_size=64)
    with pytest.raises(InvalidValue, match=r"^dim=24 is not a multiple of num_heads=5"):
        backbone(num_heads=5, attention=make)
