"""Frame-aligned point error: by brute force, under rotations, of a mirror image."""

import itertools
import math

import pytest
import torch
from test_superposition import chains

from mmtx.structure.fape import fape
from mmtx.structure.frames import Frames, random_rotations


def error(predicted, true, real):
    frames, _ = Frames.from_trace(predicted, real)
    of_true, framed = Frames.from_trace(true, real)
    return fape(frames, predicted, of_true, true, framed, real)


def test_by_brute_force():
    true, real = chains(7, 4)
    predicted = true + 4 * chains(7, 4, seed=1)[0] / 8
    (frames, framed), (of_true, _) = Frames.from_trace(predicted, real), Frames.from_trace(true, real)
    found, clamped = error(predicted, true, real), 0
    for i, n in enumerate(real.sum(1).tolist()):
        errors = []
        for a, b in itertools.product(range(1, n - 1), range(n)):
            assert framed[i, a]
            seen = frames.rotation[i, a].T @ (predicted[i, b] - predicted[i, a])
            should = of_true.rotation[i, a].T @ (true[i, b] - true[i, a])
            errors.append(min(math.sqrt(math.dist(seen, should) ** 2 + 1e-4), 10) / 10)
        clamped += sum(each == 1 for each in errors)
        assert found[i].item() == pytest.approx(sum(errors) / len(errors), abs=1e-9)
    assert clamped


def test_rotations_change_nothing_and_a_mirror_image_does():
    true, real = chains(9, 6)
    turn = random_rotations(1, torch.Generator().manual_seed(0)).double()
    smallest = math.sqrt(1e-4) / 10
    assert error(true, true, real).tolist() == pytest.approx([smallest] * 2)
    assert error(true @ turn + 5, true, real).tolist() == pytest.approx([smallest] * 2, abs=1e-5)
    predicted = true + chains(9, 6, seed=1)[0] / 8
    torch.testing.assert_close(error(predicted @ turn - 3, true, real), error(predicted, true, real), atol=1e-5, rtol=0)
    assert (error(-true, true, real) > 0.2).all()


def test_padding_changes_nothing():
    true, real = chains(9, 6)
    predicted = true + chains(9, 6, seed=1)[0] / 8
    filled = torch.where(real[..., None], predicted, 77.0)
    torch.testing.assert_close(error(filled, true, real), error(predicted, true, real))
    frames, framed = Frames.from_trace(true, real)
    nobody = torch.zeros_like(real)
    assert fape(frames, predicted, frames, true, framed & nobody, nobody).tolist() == [0, 0]
