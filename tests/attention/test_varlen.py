"""The arguments of varlen_attn, by what its documentation says of them, against the rule."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group
from test_block_plan import causal_text
from torch import Tensor

from mmtx.attention import varlen
from mmtx.attention.flex import Flex
from mmtx.attention.kernels import Dense
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.attention.varlen import Varlen
from mmtx.tokens import pack


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> Tensor:
    """varlen_attn as it is documented, over segments of queries and keys that are equally long."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and q.shape[2] % 8 == 0
    assert cu_seq_q[0] == 0 and cu_seq_q[-1] == len(q) and cu_seq_q.diff().max() <= max_q == max_k
    assert enable_gqa or q.shape[1] == k.shape[1]
    left, right = window_size
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    out = torch.empty_like(q)
    for start, stop in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        index = torch.arange(stop - start)
        ahead = index[None] - index[:, None]
        seen = ((left < 0) | (-ahead <= left)) & ((right < 0) | (ahead <= right))
        scores = torch.einsum("ihe,jhe->hij", q[start:stop], k[start:stop]) * scale
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        out[start:stop] = torch.einsum("hij,jhe->ihe", weights, v[start:stop])
    return out


def assert_equals_dense(connectivity: Connectivity, rows: int, window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    packing, is_causal = connectivity.packing, connectivity.pattern is Pattern.CAUSAL
    rendering = Varlen.of(is_causal, window, packing, torch.float32)
    q, k, v = (torch.randn(rows, heads, len(connectivity), 6, generator=generator) for heads in (4, 2, 2))
    with patch.object(varlen, "varlen_attn", plain), patch.object(varlen, "ASKS_FOR_GROUPS", True):
        attended = rendering.attend(q, k, v)
    valid = connectivity.valid.expand(rows, -1)[:, None, :, None]
    expected = Dense(connectivity.dense(window)[:, None]).attend(q, k, v)
    torch.testing.assert_close(attended * valid, expected * valid, atol=1e-5, rtol=1e-5)


@examples(40)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.sampled_from(["causal", "item"]),
    st.sampled_from([None, 1, 2, 3]),
)
def test_a_packed_row(lengths: list[int], kind: str, window: int | None) -> None:
    random_set = RandomSet({"text": group(kind, "text", 6, lengths, columns=1)}, {})
    token_set = pack(replace(random_set.join(), lengths=tuple(lengths)))
    assert_equals_dense(token_set.connectivity, 1, window)


@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_rows_of_their_own(window: int | None) -> None:
    valid = torch.arange(9)[None] < torch.tensor([9, 4])[:, None]
    assert_equals_dense(causal_text(9, valid=valid), 2, window)


def test_lengths_that_change_are_few_to_compiled_code() -> None:
    longest = set()
    for length in range(1, 65):
        random_set = RandomSet({"text": group("causal", "text", length, [length])}, {})
        packing = pack(replace(random_set.join(), lengths=(length,))).connectivity.packing
        longest.add(Varlen.of(True, None, packing, torch.bfloat16).longest)
    assert longest == {1, 2, 4, 8, 16, 32, 64}


def test_it_is_chosen_where_it_expresses_the_rule() -> None:
    """Half precision, equal or rising orders, and windows where places are positions."""
    text, half = causal_text(600), torch.bfloat16
    with patch("mmtx.attention.rule.has_varlen", return_value=True):
        assert isinstance(text._varlen(7, half), Varlen)
        assert isinstance(text._varlen(None, torch.float16), Varlen)
        assert text._varlen(7, torch.float32) is None
        assert replace(text, consecutive=False)._varlen(7, half) is None
        assert replace(text, pattern=Pattern.MIXED)._varlen(None, half) is None
        assert replace(text, pattern=Pattern.FULL, padded=True)._varlen(None, half) is None
    assert text._varlen(7, half) is None, "a CPU has no such kernel"


def test_what_it_cannot_do_is_refused() -> None:
    q = torch.zeros(1, 1, 4, 8)
    rendering = Varlen.of(True, None, None, torch.bfloat16)
    with pytest.raises(ValueError, match="neither dropout of attention nor a bias"):
        rendering.attend(q, q, q, dropout=0.1)
    with pytest.raises(ValueError, match="neither dropout of attention nor a bias"):
        rendering.attend(q, q, q, bias=torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gets_no_dense_mask_of_a_window(dtype: torch.dtype) -> None:
    """As if the tensors were there; attention that drops weights needs the dense mask."""
    text = causal_text(600)
    with (
        patch.object(Connectivity, "_on_gpu", True),
        patch("mmtx.attention.rule.has_varlen", return_value=True),
        patch.object(Connectivity, "_blocked", lambda *_: None),
    ):
        assert isinstance(text.render(7, dtype=dtype), Flex if dtype is torch.float32 else Varlen)
        assert isinstance(text.render(7, dtype=dtype, sinks=True), Flex)
        assert isinstance(text.render(7, dtype=dtype, changes_scores=True), Dense)
        assert isinstance(text.tail(1).render(7, dtype=dtype), Dense)
        assert isinstance(causal_text(100).render(7, dtype=dtype), Dense)
