"""Learned sinks: every way to compute attention against a softmax over one more score, in float64."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from test_block_plan import causal_text
from test_rule import by_hand
from torch import Tensor

from mmtx.attention import block_plan, blocked
from mmtx.attention.blocked import Blocked
from mmtx.attention.flex import Flex
from mmtx.attention.kernels import Causal, Dense, DenseOrZero, Full, OneQuery, Rendering
from mmtx.attention.per_segment import PerSegment, SegmentGroup
from mmtx.attention.varlen import Varlen
from mmtx.nn.attention_maps import Recording

LENGTH, HEADS, BLOCK = 16, 4, 4
ALL = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
CAUSAL = ALL.tril()
WINDOW = CAUSAL.triu(-2)
SEGMENTS = torch.block_diag(CAUSAL[:6, :6], CAUSAL[:4, :4], CAUSAL[:6, :6])
PACKED = PerSegment((6, 4, 6), (6, 4, 6), (SegmentGroup((1,), Causal()), SegmentGroup((0, 2), Causal())))
LAST = CAUSAL[10:11]

WAYS: dict[str, tuple[Rendering, Tensor]] = {
    "full": (Full(), ALL),
    "causal": (Causal(), CAUSAL),
    "dense": (Dense(WINDOW[None, None]), WINDOW),
    "one query": (OneQuery.of(LAST[None], torch.float64), LAST),
    "memory": (DenseOrZero(WINDOW[None, None]), WINDOW),
    "packed": (PACKED, SEGMENTS),
}


def drawn(queries: int = LENGTH, dtype: torch.dtype = torch.float64, learns: bool = True) -> list[Tensor]:
    """Queries, keys, values and sinks; two heads of keys."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, HEADS, queries, 6), (1, 2, LENGTH, 6), (1, 2, LENGTH, 6), (HEADS,)
    return [torch.randn(*shape, generator=generator, dtype=dtype, requires_grad=learns) for shape in shapes]


def assert_equals_a_softmax(rendering: Rendering, allowed: Tensor) -> None:
    q, k, v, sinks = given = drawn(len(allowed))
    for scale in (None, 0.3):
        attended = rendering.attend(q, k, v, scale=scale, sinks=sinks)
        expected = by_hand(q, k, v, allowed[None], None, scale, sinks)
        gradients = (torch.autograd.grad(out.square().sum(), given) for out in (attended, expected))
        for one, other in [(attended, expected), *zip(*gradients, strict=True)]:
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", WAYS)
def test_outputs_and_gradients(name: str) -> None:
    assert_equals_a_softmax(*WAYS[name])


def test_windows_in_blocks() -> None:
    with patch.object(block_plan, "BLOCK", BLOCK), patch.object(blocked, "BLOCK", BLOCK):
        rendering = Blocked.of(causal_text(LENGTH).integers, 3, most=1.0)
        assert rendering is not None
        assert_equals_a_softmax(rendering, WINDOW)


@pytest.mark.parametrize(("window", "allowed"), [(None, CAUSAL), (3, WINDOW)])
def test_flex_attention(window: int | None, allowed: Tensor) -> None:
    """From the log of the sum over all other keys; a CPU has no gradient of it."""
    rendering = causal_text(LENGTH).render(window, flex=True)
    assert isinstance(rendering, Flex)
    q, k, v, sinks = drawn(learns=False)
    expected = by_hand(q, k, v, allowed[None], None, None, sinks)
    torch.testing.assert_close(rendering.attend(q, k, v, sinks=sinks), expected, atol=1e-10, rtol=1e-10)


def test_a_query_without_a_key_gives_zero() -> None:
    q, k, v, sinks = drawn(learns=False)
    assert not DenseOrZero(torch.zeros(1, 1, 1, LENGTH, dtype=torch.bool)).attend(q, k, v, sinks=sinks).any()


def test_a_deep_sink_changes_nothing_and_a_high_one_takes_all() -> None:
    q, k, v, _ = drawn(learns=False)
    plain = Causal().attend(q, k, v)
    torch.testing.assert_close(Causal().attend(q, k, v, sinks=torch.full((HEADS,), -1e3)), plain)
    torch.testing.assert_close(Causal().attend(q, k, v, sinks=torch.full((HEADS,), 1e3)), torch.zeros_like(plain))


def test_maps_are_without_the_share_of_the_sink() -> None:
    q, k, v, sinks = drawn(dtype=torch.float32, learns=False)
    weights: dict[int, Tensor] = {}
    Recording(Causal(), weights, 0).attend(q, k, v, sinks=sinks)
    identity = torch.eye(LENGTH).expand(1, 2, -1, -1)
    expected = by_hand(q, k, identity, CAUSAL[None], None, None, sinks).mean(1)
    torch.testing.assert_close(weights[0], expected)
    assert weights[0].sum(-1).max() < 1


def test_flash_attention_over_rows_of_any_lengths_has_none() -> None:
    q, _, _, sinks = drawn(learns=False)
    with pytest.raises(ValueError, match="nor sinks can be computed by varlen_attn"):
        Varlen.of(True, None, None, torch.bfloat16).attend(q, q, q, sinks=sinks)


def test_attention_of_gpt_oss() -> None:
    theirs = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    q, k, v, sinks = drawn(dtype=torch.float32, learns=False)
    module = SimpleNamespace(num_key_value_groups=HEADS // 2, sinks=sinks, training=False)
    mask = torch.zeros(1, 1, LENGTH, LENGTH).masked_fill(~WINDOW, float("-inf"))
    expected, _ = theirs.eager_attention_forward(module, q, k, v, mask, 0.4)
    attended = Dense(WINDOW[None, None]).attend(q, k, v, scale=0.4, sinks=sinks).transpose(1, 2)
    torch.testing.assert_close(attended, expected, atol=1e-6, rtol=1e-6)
