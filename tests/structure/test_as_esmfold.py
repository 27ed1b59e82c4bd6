"""Modules with copied weights, equal to those of `transformers`' EsmFold; and what turning everything changes."""

from types import SimpleNamespace

import pytest
import torch
from test_superposition import chains

from mmtx.structure.frames import Frames, random_rotations
from mmtx.structure.invariant_point_attention import InvariantPointAttention
from mmtx.structure.triangle_update import TriangleMultiplication

SIZES = {"num_heads": 3, "head_dim": 5, "num_query_points": 2, "num_value_points": 4}


@pytest.fixture(scope="module")
def esmfold():
    return pytest.importorskip("transformers.models.esm.modeling_esmfold")


def randomised(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.double) / 3
    return module.double().eval()


def residues():
    """Vectors of residues and pairs, frames, and which are real."""
    generator = torch.Generator().manual_seed(1)
    x, pairs = (torch.randn(*shape, generator=generator).double() for shape in ((2, 7, 12), (2, 7, 7, 6)))
    origin, real = chains(7, 4)
    return x, pairs, Frames(random_rotations(14, generator).double().unflatten(0, (2, 7)), origin / 8), real


def test_invariant_point_attention(esmfold):
    config = SimpleNamespace(sequence_dim=12, pairwise_dim=6, ipa_dim=5, num_heads_ipa=3, num_qk_points=2)
    config.num_v_points, config.epsilon, config.inf = 4, 1e-8, 1e5
    theirs, own = randomised(esmfold.EsmFoldInvariantPointAttention(config)), InvariantPointAttention(12, 6, **SIZES)
    own.double().load_state_dict(copied_attention(theirs))
    x, pairs, frames, real = residues()
    rigid = esmfold.Rigid(esmfold.Rotation(rot_mats=frames.rotation), frames.origin)
    with torch.no_grad():
        rigid._rots._rot_mats = frames.rotation  # which theirs has cut to float32
        rigid._trans = frames.origin
        expected = theirs(x, pairs, rigid, real.double())
        torch.testing.assert_close(own(x, pairs, frames, real)[real], expected[real], atol=1e-6, rtol=0)


def copied_attention(theirs):
    """Theirs has keys and values side by side in each head, and the same of points."""
    kv, points = theirs.linear_kv, theirs.linear_kv_points
    made = {"query": theirs.linear_q, "query_points": theirs.linear_q_points, "pair_bias": theirs.linear_b}
    state = {"point_weights": theirs.head_weights.data}
    for name, linear in (made | {"out": theirs.linear_out}).items():
        state |= {f"{name}.weight": linear.weight.data, f"{name}.bias": linear.bias.data}
    for part in ("weight", "bias"):
        halves = getattr(kv, part).data.unflatten(0, (3, 10)).split(5, dim=1)
        thirds = getattr(points, part).data.unflatten(0, (3, 3, 6)).split([2, 4], dim=2)
        state |= {f"key.{part}": halves[0].flatten(0, 1), f"value.{part}": halves[1].flatten(0, 1)}
        state |= {f"key_points.{part}": thirds[0].flatten(0, 2), f"value_points.{part}": thirds[1].flatten(0, 2)}
    return state


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
def test_triangle_multiplication(esmfold, edges):
    config = SimpleNamespace(pairwise_state_dim=6)
    theirs = randomised(esmfold.EsmFoldTriangleMultiplicativeUpdate(config, _outgoing=edges == "outgoing"))
    own = TriangleMultiplication(6, edges=edges).double()
    names = {"norm": "layer_norm_in", "out_norm": "layer_norm_out", "left": "linear_a_p", "left_gate": "linear_a_g"}
    names |= {"right": "linear_b_p", "right_gate": "linear_b_g", "gate": "linear_g", "out": "linear_z"}
    own.load_state_dict(
        {f"{a}.{p}": theirs.state_dict()[f"{b}.{p}"] for a, b in names.items() for p in ("weight", "bias")}
    )
    _, pairs, _, real = residues()
    both = real[:, :, None] & real[:, None]
    with torch.no_grad():
        expected = theirs(pairs, both.double())
        torch.testing.assert_close(own(pairs, both)[both], expected[both], atol=1e-6, rtol=0)


def test_turning_everything_changes_nothing():
    own = randomised(InvariantPointAttention(12, 6, **SIZES))
    x, pairs, frames, real = residues()
    turn = random_rotations(1, torch.Generator().manual_seed(3)).double()
    moved = Frames(turn @ frames.rotation, frames.origin @ turn[0].T + 5)
    torch.testing.assert_close(own(x, pairs, moved, real), own(x, pairs, frames, real), atol=1e-5, rtol=0)
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]).double())
    mirrored = Frames(mirror @ frames.rotation @ mirror, frames.origin @ mirror)
    assert (own(x, pairs, mirrored, real) - own(x, pairs, frames, real)).abs().max() > 0.01


def test_padding_is_not_attended_to():
    own = randomised(InvariantPointAttention(12, 6, **SIZES))
    updates = [randomised(TriangleMultiplication(6, edges=edges)) for edges in ("outgoing", "incoming")]
    x, pairs, frames, real = residues()
    both = real[:, :, None] & real[:, None]
    filled = torch.where(both[..., None], pairs, 9.0)
    after = own(
        torch.where(real[..., None], x, 9.0),
        filled,
        Frames(frames.rotation, torch.where(real[..., None], frames.origin, 9.0)),
        real,
    )
    torch.testing.assert_close(after[real], own(x, pairs, frames, real)[real])
    for update in updates:
        torch.testing.assert_close(update(filled, both)[both], update(pairs, both)[both])


def test_both_begin_by_changing_nothing():
    x, pairs, frames, real = residues()
    assert not InvariantPointAttention(12, 6, **SIZES).double()(x, pairs, frames, real).any()
    assert not TriangleMultiplication(6, edges="outgoing").double()(pairs, real[:, :, None] & real[:, None]).any()
