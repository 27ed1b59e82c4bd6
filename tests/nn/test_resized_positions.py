"""Tables of positions for pictures of another size."""

from __future__ import annotations

import pytest
import torch

from mmtx.errors import InvalidValue
from mmtx.nn.positions import Learned
from mmtx.nn.resized_positions import Resized


def cells(rows: int, columns: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def test_a_table_of_its_own_size_is_learned_positions() -> None:
    table, learned = Resized((2, 3), 4, grid=[2, 3], antialias=True), Learned((2, 3), 4)
    learned.load_state_dict(table.state_dict())
    assert torch.equal(table(cells(2, 3)), learned(cells(2, 3)))


@pytest.mark.parametrize("antialias", [True, False])
def test_a_plane_stays_a_plane(antialias: bool) -> None:
    """Cubic interpolation keeps what is linear in rows and columns, in the middle, which no border reaches."""
    table = Resized((8, 8), 1, grid=[16, 16], antialias=antialias)
    place = (cells(16, 16).float() + 0.5) / 16
    table.table.weight.data = 3 * place[:, :1] - place[:, 1:]
    here = (cells(8, 8).float() + 0.5) / 8
    middle = (3 * here[:, :1] - here[:, 1:]).view(8, 8)[3:5, 3:5]
    torch.testing.assert_close(table(cells(8, 8)).view(8, 8)[3:5, 3:5], middle)


def test_only_pictures_are_resized() -> None:
    with pytest.raises(InvalidValue, match="grid=.* tokens of 1 axes"):
        Resized((5,), 4, grid=[2, 2], antialias=True)
