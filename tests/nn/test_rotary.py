"""Rotary positions against what they are for. What public models share of them is in `test_families`."""

import math

import pytest
import torch
from builders import POSITIONS, backbone
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.nn.rotary import Rotary, rotate


def at(*triples: tuple[int, int, int]) -> Tensor:
    """One row of positions (time, row, column)."""
    return torch.tensor([triples])


@pytest.mark.parametrize("axes", [["time"], ["row", "column"], ["time", "row", "column"]])
def test_rotation_depends_on_the_difference_of_positions_alone(axes: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator)
    rotary = Rotary(axes=axes, base=100.0)

    def score(a: tuple[int, int, int], b: tuple[int, int, int]) -> Tensor:
        return (rotate(q, rotary.table(at(a), 16)) * rotate(k, rotary.table(at(b), 16))).sum()

    torch.testing.assert_close(score((3, 5, 2), (1, 1, 7)), score((13, 9, 4), (11, 5, 9)))
    assert rotate(q, rotary.table(at((3, 5, 2)), 16)).norm().item() == pytest.approx(q.norm().item())
    moved = {"time": (9, 1, 7), "row": (1, 9, 7), "column": (1, 1, 9)}
    for axis, other in moved.items():
        same = torch.allclose(score((3, 5, 2), (1, 1, 7)), score((3, 5, 2), other))
        assert same == (axis not in axes), axis


def test_rotation_leaves_what_no_axis_claims() -> None:
    """Three axes of a head of 16 turn 2 pairs each, and 2 pairs stay."""
    q = torch.randn(1, 1, 1, 16)
    turned = rotate(q, Rotary(axes=["time", "row", "column"], base=100.0).table(at((3, 4, 5)), 16))
    same = (turned == q)[0, 0, 0]
    assert same.tolist() == ([False] * 6 + [True] * 2) * 2


def test_places_from_the_middle_of_a_picture() -> None:
    """DINOv3's angles (arXiv 2508.10104): 2π times the centre of a patch in [-1, 1], over powers of the base."""
    rows, columns, base, width = 3, 4, 100.0, 16
    places = [(0, 2 * r + 1 - rows, 2 * c + 1 - columns) for r in range(rows) for c in range(columns)]
    rotary = Rotary(axes=["row", "column"], base=base, wavelengths=[float(rows), float(columns)])
    cos, sin = rotary.table(at((0, 0, 0), *places), width)
    assert (cos[0, 0, 0] == 1).all() and (sin[0, 0, 0] == 0).all(), "what stands in the middle does not turn"
    for number, (r, c) in enumerate((r, c) for r in range(rows) for c in range(columns)):
        centres = [2 * (r + 0.5) / rows - 1, 2 * (c + 0.5) / columns - 1]
        angles = [2 * math.pi * centre * base ** (-pair / 4) for centre in centres for pair in range(4)]
        torch.testing.assert_close(cos[0, 0, number + 1], torch.tensor(angles).cos(), atol=1e-5, rtol=0)
        torch.testing.assert_close(sin[0, 0, number + 1], torch.tensor(angles).sin(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("wavelengths", [[1.0], [1.0, 0.0]])
def test_a_wavelength_for_each_axis(wavelengths: list[float]) -> None:
    with pytest.raises(InvalidValue, match="wavelengths=.* must be above 0, one for each of row, column"):
        Rotary(axes=["row", "column"], base=100.0, wavelengths=wavelengths)


def test_rotary_refuses_no_axes() -> None:
    with pytest.raises(InvalidValue, match="must name some of time, row, column, index"):
        Rotary(axes=[], base=100.0)


@pytest.mark.parametrize("dim", [6, 8])
def test_rotary_refuses_heads_too_narrow_to_turn(dim: int) -> None:
    with pytest.raises(InvalidValue, match=f"dim={dim} gives heads of width {dim // 2}; .* even one of at least 6"):
        backbone(dim=dim, positions=POSITIONS["rotary"])
