"""Scores within ±cap: every way to compute attention against the formula, in float64."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_block_plan import causal_text
from torch import Tensor

from mmtx.attention.flex import Flex
from mmtx.attention.kernels import Rendering
from mmtx.attention.packing import Packing
from mmtx.attention.per_segment import PerSegment
from mmtx.attention.rule import Connectivity
from mmtx.attention.soft_capped import SoftCapped

CAP, LENGTH, HEADS = 0.7, 6, 4


def packed_text(lengths: tuple[int, ...]) -> Connectivity:
    """Texts in one row."""
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    index = torch.cat([torch.arange(length) for length in lengths])[None]
    packing = Packing.of(lengths, real)
    made = replace(causal_text(sum(lengths)), packing=packing, packed=True, segment=packing.segment, order=index)
    return replace(made, position=index[..., None].expand(-1, -1, 3))


def drawn(queries: int, keys: int = LENGTH) -> list[Tensor]:
    """Queries, keys and values, of which two heads share one, and sinks."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, HEADS, queries, LENGTH), (1, 2, keys, LENGTH), (1, 2, keys, LENGTH), (HEADS,)
    return [2 * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def by_hand(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | None = None, sinks: Tensor | None = None
) -> Tensor:
    """Query by query, head by head."""
    out = torch.zeros_like(q)
    for head in range(HEADS):
        for query in range(q.shape[2]):
            keys = allowed[query].nonzero()[:, 0]
            scores = CAP * torch.tanh(k[0, head // 2, keys] @ q[0, head, query] / LENGTH**0.5 / CAP)
            weights = (scores if bias is None else scores + bias[0, head, query, keys]).exp()
            total = weights.sum() + (0 if sinks is None else sinks[head].exp())
            out[0, head, query] = weights @ v[0, head // 2, keys] / total
    return out


@pytest.mark.parametrize("has_sinks", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", [SoftCapped, Flex, PerSegment])
@torch.no_grad()
def test_every_kernel_keeps_scores_within_a_cap(kind: type[Rendering], window: int | None, has_sinks: bool) -> None:
    connectivity = packed_text((1, 3, 2)) if kind is PerSegment else causal_text(LENGTH)
    rendering = connectivity.render(window, flex=kind is Flex, softcap=CAP)
    assert isinstance(rendering, kind)
    q, k, v, sinks = drawn(LENGTH)
    given = {"sinks": sinks if has_sinks else None}
    expected = by_hand(q, k, v, connectivity.reference(window)[0], **given)
    torch.testing.assert_close(rendering.attend(q, k, v, **given), expected)


@pytest.mark.parametrize("flex", [False, True])
@torch.no_grad()
def test_a_bias_is_added_to_what_is_capped(flex: bool) -> None:
    q, k, v, _ = drawn(LENGTH)
    bias = torch.randn(1, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    connectivity = causal_text(LENGTH)
    expected = by_hand(q, k, v, connectivity.reference()[0], bias)
    torch.testing.assert_close(connectivity.render(flex=flex, softcap=CAP).attend(q, k, v, bias=bias), expected)


def test_a_cache_may_have_room_for_more_keys() -> None:
    q, k, v, sinks = drawn(1, 16)
    allowed = torch.arange(16)[None] < 4
    connectivity = causal_text(LENGTH).at(torch.tensor([3]))
    rendering = connectivity.render(softcap=CAP, flex=True)
    torch.testing.assert_close(rendering.attend(q, k, v, sinks=sinks), by_hand(q, k, v, allowed, sinks=sinks))
    bias = connectivity.bias(rendering, lambda queries, keys: torch.randn(1, HEADS, 1, LENGTH, dtype=torch.float64))
    torch.testing.assert_close(rendering.attend(q, k, v, bias=bias), by_hand(q, k, v, allowed, bias))


def test_dropout_leaves_out_weights() -> None:
    torch.manual_seed(0)
    (q, k, _, _), eye = drawn(LENGTH), torch.eye(LENGTH, dtype=torch.float64).expand(1, 2, -1, -1)
    rendering = causal_text(LENGTH).render(softcap=CAP)
    weights, dropped = rendering.attend(q, k, eye), rendering.attend(q, k, eye, dropout=0.5)
    assert 0 < (dropped == 0).sum() - (weights == 0).sum() < (weights > 0).sum()
    torch.testing.assert_close(dropped[dropped > 0], 2 * weights[dropped > 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_of_gemma_2(dtype: torch.dtype) -> None:
    theirs = pytest.importorskip("transformers.models.gemma2.modeling_gemma2")
    q, k, v = (x.to(dtype) for x in drawn(LENGTH)[:3])
    connectivity = causal_text(LENGTH)
    mask = torch.zeros(1, 1, LENGTH, LENGTH, dtype=dtype).masked_fill(~connectivity.dense()[:, None], float("-inf"))
    module = SimpleNamespace(num_key_value_groups=HEADS // 2, training=False)
    expected, _ = theirs.eager_attention_forward(module, q, k, v, mask, scaling=0.4, softcap=CAP)
    attended = connectivity.render(softcap=CAP).attend(q, k, v, scale=0.4).transpose(1, 2)
    torch.testing.assert_close(attended, expected)
