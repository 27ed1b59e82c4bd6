"""Rotary positions against what they are for. What public models share of them is in `test_families`."""

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


def test_rotary_refuses_no_axes() -> None:
    with pytest.raises(InvalidValue, match="must name some of time, row, column, index"):
        Rotary(axes=[], base=100.0)


@pytest.mark.parametrize("dim", [6, 8])
def test_rotary_refuses_heads_too_narrow_to_turn(dim: int) -> None:
    with pytest.raises(InvalidValue, match=f"dim={dim} gives heads of width {dim // 2}; .* even one of at least 6"):
        backbone(dim=dim, positions=POSITIONS["rotary"])
