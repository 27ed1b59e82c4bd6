"""Bounds of blocks against all pairs, token by token."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group, random_sets, windows
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from mmtx.attention import block_plan
from mmtx.attention.block_plan import BLOCK, BlockPlan
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.tokens import pack


def causal_text(length: int, rows: int = 1, valid: Tensor | None = None) -> Connectivity:
    """A text with an order and a position for each token."""
    index = torch.arange(length)[None]
    return Connectivity(
        order=index,
        position=torch.stack([index, index, torch.zeros_like(index)], dim=-1),
        segment=torch.zeros_like(index),
        valid=torch.ones(1, length, dtype=torch.bool) if valid is None else valid,
        pattern=Pattern.CAUSAL,
        padded=valid is not None,
        packed=False,
        consecutive=True,
    )


def in_blocks(allowed: Tensor, block: int) -> Tensor:
    """``(rows, blocks, blocks, block, block)``; False where a block goes beyond the tokens."""
    missing = -allowed.shape[1] % block, -allowed.shape[2] % block
    whole = torch.nn.functional.pad(allowed, (0, missing[1], 0, missing[0]))
    return whole.unflatten(2, (-1, block)).unflatten(1, (-1, block)).transpose(2, 3)


@examples(150)
@given(random_sets(), windows, st.sampled_from([1, 2, 3]), st.booleans(), st.booleans())
def test_no_pair_is_missed(random_set: RandomSet, window: int | None, block: int, packed: bool, tail: bool) -> None:
    token_set = random_set.join()
    if packed:
        token_set = pack(replace(token_set, lengths=tuple(random_set.lengths)))
    connectivity = token_set.connectivity.tail(1) if tail else token_set.connectivity
    with patch.object(block_plan, "BLOCK", block):
        plan = BlockPlan.of(connectivity._queries, connectivity.integers, window)
    blocks = in_blocks(connectivity.reference(window), block)
    some, whole = blocks.any(-1).any(-1), blocks.all(-1).all(-1)
    assert not (some & ~plan.some).any()
    assert not (plan.whole & ~whole).any()
    assert not (plan.whole & ~plan.some).any()


@pytest.mark.parametrize("length", [1, 127, 128, 129, 640])
@pytest.mark.parametrize("window", [None, 1, 100, 128, 129])
def test_the_plan_of_a_text_is_exact(length: int, window: int | None) -> None:
    """As torch makes it from all pairs."""
    integers = causal_text(length).integers
    plan = BlockPlan.of(integers, integers, window)

    def mask(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & (i - j < (length if window is None else window))

    expected = create_block_mask(mask, 1, 1, length, length, device="cpu")
    assert plan.some.int().equal(expected.to_dense()[0])
    assert plan.whole.sum() == expected.full_kv_num_blocks.sum()


def test_a_packed_row_meets_its_own_segments_alone() -> None:
    """Samples of two blocks each, of which no one sees the other."""
    random_set = RandomSet({"image": group("item", "image", 2 * BLOCK, [2 * BLOCK] * 3)}, {})
    connectivity = pack(replace(random_set.join(), lengths=tuple(random_set.lengths))).connectivity
    plan = BlockPlan.of(connectivity.integers, connectivity.integers)
    expected = torch.block_diag(*[torch.ones(2, 2)] * 3).bool()
    assert plan.some[0].equal(expected) and plan.whole[0].equal(expected)


def test_the_drawn_example() -> None:
    lines = [line.strip() for line in (BlockPlan.__doc__ or "").splitlines() if line.strip()[:1] in {"/", "."}]
    integers = causal_text(4 * BLOCK).integers
    plan = BlockPlan.of(integers, integers, BLOCK)
    drawn = ["".join("#" if w else "/" if s else "." for s, w in zip(*rows, strict=True)) for rows in
             zip(plan.some[0].tolist(), plan.whole[0].tolist(), strict=True)]  # fmt: skip
    assert drawn == lines
