"""Local distance difference test and distogram, by brute force."""

import itertools
import math

import pytest
import torch
from test_superposition import chains

from mmtx.structure.distances import distogram_bins, distogram_loss, lddt
from mmtx.structure.frames import random_rotations


def test_lddt_by_brute_force():
    true, real = chains(9, 5)
    predicted = true + 1.5 * chains(9, 5, seed=1)[0] / 8
    found = lddt(predicted, true, real)
    for i, n in enumerate(real.sum(1).tolist()):
        kept = scored = 0
        for a, b in itertools.permutations(range(n), 2):
            distance = math.dist(true[i, a], true[i, b])
            if distance < 15:
                off = abs(math.dist(predicted[i, a], predicted[i, b]) - distance)
                scored += 4
                kept += sum(off < limit for limit in (0.5, 1, 2, 4))
        assert 0 < kept < scored
        assert found[i].item() == pytest.approx(kept / scored, abs=1e-9)


def test_lddt_of_the_same_chain_is_one_and_padding_changes_nothing():
    true, real = chains(9, 5)
    turn = random_rotations(1, torch.Generator().manual_seed(0)).double()
    assert lddt(true @ turn + 4, true, real).tolist() == [1, 1]
    assert lddt(-true, true, real).tolist() == [1, 1], "mirror images have the same distances"
    other = chains(9, 5, seed=1)[0]
    filled = torch.where(real[..., None], other, 1e4)
    torch.testing.assert_close(lddt(filled, true, real), lddt(other, true, real))
    assert lddt(other, true, torch.zeros_like(real)).tolist() == [0, 0]


def test_distogram_by_brute_force():
    true, real = chains(7, 4)
    logits = torch.randn(2, 7, 7, 64, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    found = distogram_loss(logits, true, real)
    width = (21.6875 - 2.3125) / 62
    for i, n in enumerate(real.sum(1).tolist()):
        losses = []
        for a, b in itertools.permutations(range(n), 2):
            distance = math.dist(true[i, a], true[i, b])
            number = min(max(math.ceil((distance - 2.3125) / width), 0), 63)
            assert int(distogram_bins(true)[i, a, b]) == number
            losses.append(-logits[i, a, b].log_softmax(-1)[number].item())
        assert found[i].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
