"""Which ids are masked: how many, which, and the weights that make their losses a bound."""

from __future__ import annotations

from collections import Counter

import torch
from scipy.stats import chisquare
from torch import Tensor

from mmtx.objectives.masks import Masks, blocks_of, draw_masks


def draw(may_be: Tensor, size: int | None = None, seed: int = 0) -> Masks:
    blocks = blocks_of([may_be.shape[1]], size, may_be.device)
    return draw_masks(may_be, blocks, torch.Generator().manual_seed(seed))


def test_every_number_of_masks_comes_as_often() -> None:
    """As many rows as there are numbers: each has one of them."""
    for seed in range(5):
        masked, weights = draw(torch.ones(6, 6, dtype=torch.bool), seed=seed)
        assert sorted(masked.sum(1).tolist()) == [1, 2, 3, 4, 5, 6]
        assert weights.equal(masked * 6 / masked.sum(1, keepdim=True))


def test_every_choice_of_so_many_is_as_likely() -> None:
    masked = draw(torch.ones(8000, 4, dtype=torch.bool)).masked
    for count, choices in ((1, 4), (2, 6), (3, 4)):
        rows = Counter(map(tuple, masked[masked.sum(1) == count].tolist()))
        assert len(rows) == choices
        assert chisquare(list(rows.values())).pvalue > 0.01


def test_each_block_has_masks_of_its_own_and_given_ids_none() -> None:
    may_be = torch.rand(300, 7, generator=torch.Generator().manual_seed(1)) < 0.7
    may_be[:5] = False
    masked, weights = draw(may_be, 3)
    assert not (masked & ~may_be).any()
    seen = set()
    for block in (slice(0, 3), slice(3, 6), slice(6, 7)):
        size, count = may_be[:, block].sum(1), masked[:, block].sum(1)
        assert ((count >= 1) == (size >= 1)).all()
        expected = masked[:, block] * (size / count.clamp(min=1))[:, None]
        torch.testing.assert_close(weights[:, block], expected)
        seen |= set(zip(size.tolist(), count.tolist(), strict=True))
    assert seen == {(0, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)}


def test_no_ids_have_no_masks() -> None:
    masked, weights = draw(torch.zeros(3, 0, dtype=torch.bool))
    assert masked.shape == weights.shape == (3, 0)


def test_blocks_of_several_names() -> None:
    blocks = blocks_of([3, 4], 2, torch.device("cpu"))
    assert blocks.of.tolist() == [0, 0, 1, 2, 2, 3, 3] and blocks.number == 4
    assert blocks_of([3, 4], None, torch.device("cpu")).of.tolist() == [0] * 7
