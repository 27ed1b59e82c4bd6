"""Block masks for lengths that no block divides: asked inside their tensors alone, and equal to the rule."""

from __future__ import annotations

import pytest
import torch
from test_block_plan import causal_text
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from mmtx.attention.block_plan import BLOCK
from mmtx.attention.flex import Flex
from mmtx.attention.kernels import Dense
from mmtx.attention.memory_rule import MemoryRule
from mmtx.attention.rule import Connectivity

LENGTHS = [1, 127, 128, 129, pytest.param(300, marks=pytest.mark.slow)]


def padded_text(length: int) -> Connectivity:
    return causal_text(length, valid=torch.arange(length)[None] < torch.tensor([length, length // 2])[:, None])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("window", [pytest.param(None, marks=pytest.mark.slow), 50])
def test_whole_blocks_may_be_asked_of(length: int, window: int | None) -> None:
    """Of all places of all blocks, with queries that begin anywhere; there is no index beyond a tensor's end."""
    connectivity = padded_text(length)
    for some in (connectivity, connectivity.tail(1), connectivity.tail(length - length // 2)):
        rendering, expected = some.render(window, flex=True), some.reference(window)
        assert isinstance(rendering, Flex)
        queries, keys = (torch.arange(-(-size // BLOCK) * BLOCK) for size in expected.shape[1:])
        b = torch.arange(2)[:, None, None]
        asked = rendering.block_mask.mask_mod(b, 0, queries[:, None], keys)
        assert asked[:, : expected.shape[1], : expected.shape[2]].equal(expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_blocks_hold_the_rule(length: int) -> None:
    """A block that is left out has no pair, a full one all, and the transposed lists, for gradients, say the same."""
    connectivity = padded_text(length)
    rendering = connectivity.render(50, flex=True)
    assert isinstance(rendering, Flex)
    mask, size = rendering.block_mask, -(-length // BLOCK)
    whole = torch.nn.functional.pad(connectivity.reference(50), (0, size * BLOCK - length) * 2)
    blocks = whole.unflatten(2, (size, BLOCK)).unflatten(1, (size, BLOCK)).transpose(2, 3)
    partial, full = listed(mask.kv_num_blocks, mask.kv_indices), listed(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert not (blocks.any(-1).any(-1) & ~partial & ~full).any()
    assert not (full & ~blocks.all(-1).all(-1)).any() and not (full & partial).any()
    assert listed(mask.q_num_blocks, mask.q_indices).mT.equal(partial)
    assert listed(mask.full_q_num_blocks, mask.full_q_indices).mT.equal(full)


def listed(counts: Tensor, indices: Tensor) -> Tensor:
    """``(rows, queries, keys)``: which blocks a list names."""
    named = torch.zeros(indices.shape, dtype=torch.bool)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in counts.shape)).view(-1, 3).tolist():
        named[(*place, indices[tuple(place)][: int(counts[tuple(place)])].long())] = True
    return named[:, 0]


def test_rows_that_agree_share_a_mask() -> None:
    """Of a batch of any size: the mask has one row, and is asked for others."""
    rendering = causal_text(129).render(flex=True)
    assert isinstance(rendering, Flex)
    assert rendering.block_mask.mask_mod(torch.tensor(5), 0, torch.tensor(128), torch.tensor(3))


def test_a_memory_is_asked_of_in_whole_blocks() -> None:
    queries, keys = padded_text(129), padded_text(5)
    flex = MemoryRule(queries, keys)._flex()
    b, i, j = torch.arange(2)[:, None, None], torch.arange(256)[:, None], torch.arange(128)
    asked = flex.block_mask.mask_mod(b, 0, i, j)
    assert asked[:, :129, :5].equal(MemoryRule(queries, keys).reference().expand(2, -1, -1))
    assert not asked[..., 5:].any()


@pytest.mark.slow
def test_the_compiled_kernel_gives_the_same() -> None:
    """A CPU has the forward pass; the rule is compiled into it."""
    connectivity = padded_text(129)
    rendering = connectivity.render(50, flex=True)
    assert isinstance(rendering, Flex)
    q, k, v = torch.randn(3, 2, 2, 129, 16).unbind()
    attended = torch.compile(flex_attention, dynamic=False)(q, k, v, block_mask=rendering.block_mask)
    expected = Dense(connectivity.dense(50)[:, None]).attend(q, k, v)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)
