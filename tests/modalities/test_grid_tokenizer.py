"""Grids: one token per patch of cells and step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import grid, grid_spec, steps_batch
from contracts import check_tokenizer

from mmtx.batch import Field, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.grid import Grid


def made(spec: Spec | None = None, **changes: Any) -> Grid:
    torch.manual_seed(0)
    return grid(spec, dim=6, **changes)


@pytest.mark.parametrize(
    ("spec", "patch_size"),
    [
        (grid_spec(), 4),
        (grid_spec(), 1),
        (grid_spec(2, 6, symbols=3), 2),
        (grid_spec(4, 2, symbols=1, num_times=None), 2),
        (grid_spec(max_length=1), 2),
    ],
)
def test_contract(spec: Spec, patch_size: int) -> None:
    check_tokenizer(made(spec, patch_size=patch_size))


@pytest.mark.parametrize("patch_size", [1, 2])
def test_equals_ones_and_zeros_patch_by_patch(patch_size: int) -> None:
    """Cell by cell and symbol by symbol, in plain loops."""
    spec, p = grid_spec(4, 6, symbols=2), patch_size
    tokenizer, batch = made(spec, patch_size=p), steps_batch({"name": spec}, [3, 2], [5, 0])
    cells = batch["name"]["cells"].tolist()
    tokens = tokenizer(batch["name"], batch.lengths["name"], batch.full["name"])
    per_step = (4 // p) * (6 // p)
    assert tokens.content.shape == (2, 3 * per_step, 6)
    for b, length in enumerate([3, 2]):
        for step in range(length):
            for row in range(4 // p):
                for column in range(6 // p):
                    ones = [
                        float(symbol == number)
                        for i in range(p)
                        for j in range(p)
                        for symbol in cells[b][step][row * p + i][column * p + j]
                        for number in range(3)
                    ]
                    index = step * per_step + row * (6 // p) + column
                    expected = tokenizer.projection(torch.tensor(ones))
                    torch.testing.assert_close(tokens.content[b, index], expected)
                    assert tokens.coordinates[index].tolist() == [row, column]
                    assert tokens.time[b, index] == [5, 0][b] + step
    assert tokens.lengths.tolist() == [3 * per_step, 2 * per_step]
    assert tokens.num_items == 3
    assert (tokenizer.extent, tokenizer.max_tokens) == ((4 // p, 6 // p), 5 * per_step)


def test_the_whole_view_is_one_token_a_step() -> None:
    tokenizer = made(patch_size=4)
    batch = steps_batch({"name": tokenizer.spec}, [3])
    tokens = tokenizer(batch["name"], batch.lengths["name"], batch.full["name"])
    assert tokens.content.shape == (1, 3, 6) and tokens.coordinates.tolist() == [[0, 0]] * 3
    assert tokens.time.tolist() == [[0, 1, 2]] and tokens.full


def test_without_times_steps_are_counted() -> None:
    spec = grid_spec(num_times=None)
    batch = steps_batch({"name": spec}, [2, 1])
    tokens = made(spec, patch_size=2)(batch["name"], batch.lengths["name"], batch.full["name"])
    assert tokens.time.tolist() == [[0] * 4 + [1] * 4]


@pytest.mark.parametrize(
    ("spec", "patch_size", "message"),
    [
        (grid_spec(4, 6), 4, "patch_size=4 does not divide the view of 4 x 6 cells"),
        (grid_spec(6, 4), 4, "patch_size=4 does not divide the view of 6 x 4 cells"),
        (grid_spec(), 0, "patch_size=0 does not divide"),
        (Spec({"ids": Field((None,), torch.long, 3, 5)}), 1, "'grid' reads the field 'cells'; the data offers ids"),
        (Spec({"cells": Field((4, 4, 2), torch.uint8, 3)}), 1, r"cells of shape \(steps, height, width, symbols\)"),
        (Spec({"cells": Field((None, 4, 4), torch.uint8, 3, 5)}), 1, r"cells of shape \(steps, height, width"),
        (Spec({"cells": Field((None, 4, 4, 2), torch.uint8, None, 5)}), 1, "with num_classes"),
    ],
)
def test_what_cannot_work_is_refused(spec: Spec, patch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        made(spec, patch_size=patch_size)
    assert isinstance(refused.value, InvalidValue) == ("patch_size=" in message)
