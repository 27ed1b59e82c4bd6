"""Attention block by block against the dense rule: outputs, gradients, biases."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group, random_sets, windows
from test_block_plan import causal_text
from torch import Tensor

from mmtx.attention import block_plan, blocked
from mmtx.attention.blocked import Blocked
from mmtx.attention.kernels import Bias, Dense, Rendering
from mmtx.attention.per_segment import PerSegment
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.nn.positions import ALiBi, T5Bias
from mmtx.tokens import pack

HEADS = 4


BUCKETS = {"num_buckets": 8, "max_distance": 16, "bidirectional": True}


def results(rendering: Rendering, rows: int, connectivity: Connectivity, num_kv_heads: int, bias: Bias) -> list[Tensor]:
    """Outputs at valid tokens, and the gradients of queries, keys and values."""
    generator, valid = torch.Generator().manual_seed(0), connectivity.valid.expand(rows, -1)[..., None, None]
    shapes = ((rows, heads, len(connectivity), 8) for heads in (HEADS, num_kv_heads, num_kv_heads))
    parts = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    attended = rendering.attend(*parts, bias=bias).transpose(1, 2) * valid
    assert attended.isfinite().all()
    return [attended, *torch.autograd.grad(attended.square().sum(), parts)]


def assert_equals_dense(rendering: Rendering, connectivity: Connectivity, rows: int, window: int | None) -> None:
    dense = Dense(connectivity.dense(window)[:, None])
    for of, num_kv_heads in ((None, 4), (ALiBi(HEADS), 2), (T5Bias(HEADS, **BUCKETS), 4)):
        whole = None if of is None else of(connectivity.position, connectivity.position)
        parts = None if of is None else connectivity.bias(rendering, of)
        expected = results(dense, rows, connectivity, num_kv_heads, whole)
        got = results(rendering, rows, connectivity, num_kv_heads, parts)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@examples(60)
@given(random_sets(), windows, st.sampled_from([2, 3, 4]))
def test_any_set_in_small_blocks(random_set: RandomSet, window: int | None, block: int) -> None:
    """Several axes, private tokens, padding that differs from row to row, lengths that no block divides."""
    connectivity = random_set.join().connectivity
    with patch.object(block_plan, "BLOCK", block), patch.object(blocked, "BLOCK", block):
        rendering = Blocked.of(connectivity.integers, window, most=1.0)
        assert rendering is not None
        assert_equals_dense(rendering, connectivity, random_set.num_samples, window)


@pytest.mark.parametrize("length", [512, 513, 639])
@pytest.mark.parametrize("window", [1, 128, 129])
def test_a_long_text(length: int, window: int) -> None:
    connectivity = causal_text(length)
    rendering = connectivity.render(window)
    assert isinstance(rendering, Blocked)
    assert all(len(group.allowed) == 1 for group in rendering.rows[0][1:]), "one mask for all blocks inside"
    assert_equals_dense(rendering, connectivity, 2, window)


def test_padding_that_differs() -> None:
    valid = torch.arange(600)[None] < torch.tensor([600, 300, 0])[:, None]
    connectivity = causal_text(600, valid=valid)
    rendering = connectivity.render(100)
    assert isinstance(rendering, Blocked) and len(rendering.rows) == 3
    assert_equals_dense(rendering, connectivity, 3, 100)


def test_long_segments_of_a_packed_row() -> None:
    """Short ones stay dense."""
    random_set = RandomSet({"text": group("causal", "text", 520, [520, 30, 520], columns=1)}, {})
    connectivity = pack(replace(random_set.join(), lengths=tuple(random_set.lengths))).connectivity
    rendering = connectivity.render(90)
    assert isinstance(rendering, PerSegment)
    assert [type(group.rendering) for group in rendering.groups] == [Dense, Blocked]
    assert_equals_dense(rendering, connectivity, 1, 90)


def test_dense_is_cheaper() -> None:
    """Of short rows, for the last queries of a cache, and where most pairs attend."""
    assert isinstance(causal_text(300).render(10), Dense)
    assert isinstance(causal_text(600).tail(3).render(10), Dense)
    assert isinstance(replace(causal_text(600), pattern=Pattern.MIXED).render(), Dense)


def test_dropout_leaves_out_weights() -> None:
    """Values are ones, and kept weights are scaled so that their mean stays."""
    rendering, ones = causal_text(1024).render(100), torch.ones(1, 1, 1024, 4)
    attended = rendering.attend(ones, ones, ones, dropout=0.5)
    assert attended.std() > 0.01
    assert attended.mean().item() == pytest.approx(1.0, abs=0.02)
