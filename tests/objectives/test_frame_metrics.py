"""Metrics of frames, by their formulae and by brute force."""

from __future__ import annotations

import math

import pytest
import torch

from mmtx.objectives.frame_metrics import squared_error, structural_similarity


def by_hand(one: torch.Tensor, other: torch.Tensor, size: int) -> float:
    """Equation 13 of Wang et al. 2004, pixel by pixel, in float64."""
    half, values = size // 2, []
    away = range(-half, half + 1)
    weights = {(i, j): math.exp(-(i * i + j * j) / (2 * 1.5**2)) for i in away for j in away}
    total = sum(weights.values())
    for row in range(half, one.shape[0] - half):
        for column in range(half, one.shape[1] - half):
            pairs = [
                (w / total, float(one[row + i, column + j]), float(other[row + i, column + j]))
                for (i, j), w in weights.items()
            ]
            x, y = (sum(w * pair[k] for w, *pair in pairs) for k in (0, 1))
            xx, yy = (sum(w * (pair[k] - m) ** 2 for w, *pair in pairs) for k, m in ((0, x), (1, y)))
            xy = sum(w * (a - x) * (b - y) for w, a, b in pairs)
            values.append((2 * x * y + 1e-4) * (2 * xy + 9e-4) / ((x * x + y * y + 1e-4) * (xx + yy + 9e-4)))
    return sum(values) / len(values)


@pytest.mark.parametrize(("shape", "window"), [((13, 12), 11), ((8, 8), 7)])
def test_ssim_is_that_of_its_definition(shape: tuple[int, int], window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.rand(2, 2, *shape, generator=generator, dtype=torch.double)
    other = (one + 0.3 * noise).clamp(0, 1)
    found = structural_similarity(one[None, :, None], other[None, :, None])
    expected = torch.tensor([[by_hand(a, b, window) for a, b in zip(one, other, strict=True)]], dtype=torch.double)
    torch.testing.assert_close(found, expected)


def test_what_is_equal_is_similar() -> None:
    film = torch.rand(2, 3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(structural_similarity(film, film), torch.ones(2, 3))
    assert structural_similarity(film, 1 - film).max() < 0
    assert squared_error(film, film).eq(0).all()
    assert squared_error(torch.zeros(1, 1, 2, 3, 4), torch.full((1, 1, 2, 3, 4), 0.5)).item() == 24 * 0.25
