"""Position schemes against their formulas. What public models share of them is in `test_families`."""

from __future__ import annotations

import math

import pytest
import torch
from builders import backbone
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.nn.cell_sinusoidal import CellSinusoidal
from mmtx.nn.positions import ALiBi, Learned, Positions, Sinusoidal, T5Bias, alibi_slopes
from mmtx.nn.rotary import Rotary


def grid(rows: int, columns: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def at(*triples: tuple[int, int, int]) -> Tensor:
    """One row of positions (time, row, column)."""
    return torch.tensor([triples])


def test_learned_has_a_vector_per_place() -> None:
    table = Learned((2, 3), 4)
    embedded = table(grid(2, 3))
    assert embedded.equal(table.table.weight), "row by row"
    assert table(torch.tensor([[1, 0]]))[0].equal(table.table.weight[3])
    assert Learned((5,), 4)(torch.tensor([[4]]))[0].shape == (4,)


def test_sinusoidal_equals_its_formula() -> None:
    """One axis has all of the width, two have half each; wavelengths from 2π to 2π · base."""
    dim, base = 8, 100.0
    one = Sinusoidal((6,), dim, base=base)(torch.arange(6)[:, None])
    for position in range(6):
        angles = [position / base ** (i / 3) for i in range(4)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        torch.testing.assert_close(one[position], torch.tensor(expected))
    two = Sinusoidal((3, 5), dim, base=base)(grid(3, 5))
    half = Sinusoidal((5,), dim // 2, base=base)
    torch.testing.assert_close(two[:, :4], half(grid(3, 5)[:, :1]))
    torch.testing.assert_close(two[:, 4:], half(grid(3, 5)[:, 1:]))


def test_sinusoidal_refuses_a_width_that_does_not_divide() -> None:
    with pytest.raises(InvalidValue, match="dim=6 is not a multiple of 4, as 2 sinusoidal axes need"):
        Sinusoidal((3, 5), 6, base=100.0)


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8) == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(3) == [2**-4, 2**-8, 2**-2]


def test_alibi_counts_the_largest_distance() -> None:
    bias = ALiBi(2)(at((4, 1, 1)), at((4, 1, 1), (1, 1, 1), (4, 3, 2), (1, 3, 6)))
    assert bias.shape == (1, 2, 1, 4)
    assert bias[0, 0, 0].tolist() == [0, -3 / 16, -2 / 16, -5 / 16]
    assert bias[0, 1, 0].tolist() == [0, -3 / 256, -2 / 256, -5 / 256]


def test_t5_bias_tells_items_by_time_and_tokens_of_one_item_by_row() -> None:
    bias = T5Bias(2, num_buckets=32, max_distance=128, bidirectional=True)
    torch.nn.init.normal_(bias.table.weight)
    query, keys = at((4, 2, 0)), at((4, 2, 0), (1, 2, 0), (1, 7, 3), (4, 5, 0), (4, 0, 0))
    scores = bias(query, keys)[0, :, 0]
    distances = torch.tensor([0, -3, -3, 3, -2])
    torch.testing.assert_close(scores, bias.table(bias.bucket(distances)).T)


def test_t5_bias_of_one_direction_ignores_the_future() -> None:
    bias = T5Bias(2, num_buckets=8, max_distance=16, bidirectional=False)
    assert bias.bucket(torch.tensor([5, 1, 0, -1, -3, -100])).tolist() == [0, 0, 0, 1, 3, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_buckets": 3}, "num_buckets=3 must be at least 4"),
        ({"num_buckets": 1, "bidirectional": False}, "num_buckets=1 must be at least 2"),
        ({"max_distance": 8}, "max_distance=8 must be more than the 8 distances that are exact"),
    ],
)
def test_t5_bias_refuses_what_has_no_buckets(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        T5Bias(2, **{"num_buckets": 32, "max_distance": 128, "bidirectional": True, **changes})


def test_a_scheme_may_be_several_at_once() -> None:
    both = Positions(absolute=Learned, rotary=Rotary(axes=["time"], base=100.0), bias=ALiBi)
    body = backbone(positions=both)
    assert body.position_bias is not None


@pytest.mark.parametrize("dim", [8, 7])
def test_cells_are_counted_along_the_last_axis_first(dim: int) -> None:
    """Sines and cosines in turn, as the definition has them."""
    cells = [(time, row, column) for time in range(2) for row in range(3) for column in range(4)]
    found = CellSinusoidal((2, 3, 4), dim, base=100.0)(torch.tensor(cells))
    waves = (math.sin, math.cos)
    expected = [[waves[j % 2](cell / 100.0 ** (2 * (j // 2) / dim)) for j in range(dim)] for cell in range(24)]
    torch.testing.assert_close(found, torch.tensor(expected))
