"""Kabsch superposition, against SciPy."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from mmtx.structure.frames import random_rotations
from mmtx.structure.superposition import rmsd, superpose


def chains(*lengths, seed=0):
    """Random points, padded with what means nothing."""
    generator = torch.Generator().manual_seed(seed)
    points = 8 * torch.randn(len(lengths), max(lengths), 3, generator=generator, dtype=torch.double)
    return points, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("mirrored", [False, True])
def test_as_scipy(mirrored):
    moving, real = chains(9, 4, 7)
    fixed, _ = chains(9, 4, 7, seed=1)
    fixed = moving * torch.tensor([-1.0, 1, 1]) + 0.1 * fixed if mirrored else fixed
    turned, distance = superpose(moving, fixed, real), rmsd(moving, fixed, real)
    for i, n in enumerate(real.sum(1).tolist()):
        one, other = (points[i, :n] - points[i, :n].mean(0) for points in (moving, fixed))
        turn, total = Rotation.align_vectors(other.numpy(), one.numpy())
        expected = torch.tensor(turn.apply(one.numpy())) + fixed[i, :n].mean(0)
        torch.testing.assert_close(turned[i, :n], expected, atol=1e-6, rtol=0)
        assert distance[i].item() == pytest.approx(total / n**0.5, abs=1e-6)


def test_turned_and_shifted_chains_are_the_same():
    points, real = chains(6, 12)
    turns = random_rotations(2, torch.Generator().manual_seed(2)).double()
    moved = points @ turns + torch.tensor([3.0, -50, 8])
    assert rmsd(moved, points, real).max() < 1e-5
    torch.testing.assert_close(superpose(moved, points, real)[real], points[real], atol=1e-5, rtol=0)


def test_padding_and_samples_without_points():
    points, real = chains(6, 12, 3)
    other, _ = chains(6, 12, 3, seed=1)
    filled = torch.where(real[..., None], points, float("nan"))
    torch.testing.assert_close(rmsd(filled, other, real), rmsd(points, other, real))
    assert rmsd(points, other, torch.zeros_like(real)).tolist() == [0, 0, 0]


def test_rotations_are_rotations():
    turns = random_rotations(50, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).double().expand(50, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(50).double(), atol=1e-6, rtol=0)
    assert turns.mean(0).abs().max() < 0.3, "no direction is preferred"
