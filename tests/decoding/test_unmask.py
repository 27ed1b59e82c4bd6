"""Writing in any order, from conditionals in a table."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from mmtx.decoding.unmask import Unmasking, per_pass, unmask
from mmtx.errors import InvalidValue

IDS, LENGTH = 3, 3
TABLE = torch.randn([IDS + 1] * LENGTH + [LENGTH, IDS], generator=torch.Generator().manual_seed(0))
"""Scores of each place, for everything that may stand there; the last id is the mask."""


def scores(ids: Tensor, masked: Tensor) -> Tensor:
    return TABLE[tuple(ids.masked_fill(masked, IDS).T)]


def written(rows: int, *, given: Tensor | None = None, masked: Tensor | None = None, **how: Any) -> Tensor:
    ids = torch.zeros(rows, LENGTH, dtype=torch.long) if given is None else given
    masked = torch.ones_like(ids, dtype=torch.bool) if masked is None else masked
    generator = torch.Generator().manual_seed(0)
    return unmask(scores, ids, masked, torch.zeros(LENGTH).long(), how=Unmasking(**how), generator=generator)


def chance(text: tuple[int, ...], order: tuple[int, ...]) -> float:
    ids, masked, total = torch.tensor([text]), torch.ones(1, LENGTH, dtype=torch.bool), 1.0
    for place in order:
        total *= float(scores(ids, masked)[0, place].softmax(-1)[text[place]])
        masked[0, place] = False
    return total


def test_a_pass_for_each_id_follows_the_model() -> None:
    """The mean over orders of the product of its conditionals."""
    orders = list(permutations(range(LENGTH)))
    texts = list(product(range(IDS), repeat=LENGTH))
    expected = torch.tensor([sum(chance(text, order) for order in orders) / len(orders) for text in texts]).double()
    rows = written(8000)
    found = torch.stack([(rows == torch.tensor(text)).all(1).sum() for text in texts])
    assert chisquare(found, expected / expected.sum() * len(rows)).pvalue > 0.01


def test_one_pass_draws_all_ids_at_once() -> None:
    of_each = scores(torch.zeros(1, LENGTH).long(), torch.ones(1, LENGTH, dtype=torch.bool))[0].double().softmax(-1)
    rows = written(4000, num_steps=1)
    for place, chances in enumerate(of_each):
        assert chisquare(rows[:, place].bincount(minlength=IDS), chances * 4000).pvalue > 0.01


def test_what_is_given_stays_and_counts() -> None:
    given = torch.tensor([[2, 0, 0]]).expand(2000, -1)
    masked = torch.tensor([[False, True, False]]).expand(2000, -1)
    rows = written(2000, given=given, masked=masked)
    assert (rows[:, [0, 2]] == torch.tensor([2, 0])).all()
    chances = TABLE[2, IDS, 0, 1].double().softmax(-1)
    assert chisquare(rows[:, 1].bincount(minlength=IDS), chances * 2000).pvalue > 0.01


def test_the_surest_comes_first() -> None:
    """Greedy, by a loop."""
    ids, masked = torch.zeros(1, LENGTH).long(), torch.ones(1, LENGTH, dtype=torch.bool)
    for _ in range(LENGTH):
        sure, best = scores(ids, masked)[0].softmax(-1).max(-1)
        place = int(sure.masked_fill(~masked[0], -1).argmax())
        ids[0, place], masked[0, place] = best[place], False
    assert written(1, order="confidence", temperature=0.0).equal(ids)


def test_blocks_are_written_one_after_the_other() -> None:
    seen = []

    def record(ids: Tensor, masked: Tensor) -> Tensor:
        seen.append(masked.int().tolist())
        return torch.zeros(*ids.shape, IDS)

    masked, block = torch.tensor([[1, 0, 1, 1, 1], [1, 1, 1, 0, 0]]).bool(), torch.tensor([0, 0, 1, 1, 1])
    how, generator = Unmasking(num_steps=2), torch.Generator().manual_seed(0)
    unmask(record, torch.zeros(2, 5).long(), masked, block, how=how, generator=generator)
    assert len(seen) == 4
    assert seen[0] == masked.int().tolist()
    assert seen[2][0] == [0, 0, 1, 1, 1] and seen[2][1] == [0, 0, 1, 0, 0]
    assert seen[3][0][2:].count(1) == 1 and seen[3][1] == [0] * 5


@pytest.mark.parametrize(
    ("grid", "counts", "steps", "expected"),
    [
        ("equal", [7, 3, 0], 3, [[3, 1, 0], [2, 1, 0], [2, 1, 0]]),
        ("cosine", [8], 4, [[1], [2], [2], [3]]),  # 8 cos(pi/2 · s/4), rounded down: 7, 5, 3, 0
    ],
)
def test_how_many_a_pass_writes(grid: Any, counts: list[int], steps: int, expected: list[list[int]]) -> None:
    assert [each.tolist() for each in per_pass(torch.tensor(counts), steps, grid)] == expected


@pytest.mark.parametrize("grid", ["equal", "cosine"])
def test_more_passes_than_ids(grid: Any) -> None:
    assert (written(5, given=torch.full((5, LENGTH), 9), grid=grid, num_steps=7) < IDS).all()


def test_an_id_that_is_never_drawn() -> None:
    def without(ids: Tensor, masked: Tensor) -> Tensor:
        return torch.tensor([0.0, float("-inf"), 0.0]).expand(*ids.shape, IDS)

    ids, generator = torch.ones(200, LENGTH).long(), torch.Generator().manual_seed(0)
    rows = unmask(without, ids, ids > 0, torch.zeros(LENGTH).long(), how=Unmasking(), generator=generator)
    assert set(rows.unique().tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"block_size": 0}, "block_size=0 must be at least 1"),
        ({"top_p": 1.5}, r"top_p=1.5 must lie in \(0, 1\]"),
        ({"temperature": 0.0, "top_k": 3}, "top_k=3 changes nothing beside temperature=0"),
    ],
)
def test_values_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Unmasking(**changes)
