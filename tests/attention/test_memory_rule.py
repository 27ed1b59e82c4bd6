"""The rule of cross-attention between two sets, its rendering, and queries that are left without a key."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group, random_sets
from torch import Tensor

from mmtx.attention.kernels import DenseOrZero, Full
from mmtx.attention.memory_rule import Memory, MemoryRule
from mmtx.attention.per_segment import PerSegment
from mmtx.attention.rule import Connectivity
from mmtx.tokens import pack


def tokens(segment: list[list[int]], valid: list[list[bool]], padded: bool, packed: bool) -> Connectivity:
    """Tokens, of which the rule reads segment and validity alone."""
    index = torch.arange(len(segment[0]))[None]
    return Connectivity(
        order=index,
        position=index[..., None].expand(-1, -1, 3),
        segment=torch.tensor(segment),
        valid=torch.tensor(valid),
        padded=padded,
        packed=packed,
    )


@st.composite
def sides(draw: st.DrawFn, rows: int) -> Connectivity:
    """One of the two sets: packed or not, padded or not, one row for all where all agree; promises are kept."""
    length = draw(st.integers(1, 5))
    several = draw(st.sampled_from([1, rows]))
    packed, padded = draw(st.booleans()), draw(st.booleans())
    numbers = st.integers(0, 2) if packed else st.just(0)
    truths = st.booleans() if padded else st.just(True)
    segment = [draw(st.lists(numbers, min_size=length, max_size=length)) for _ in range(several)]
    valid = [draw(st.lists(truths, min_size=length, max_size=length)) for _ in range(several)]
    return tokens(segment, valid, padded, packed)


@st.composite
def rules(draw: st.DrawFn) -> tuple[MemoryRule, int]:
    """A rule, and of how many rows."""
    rows = draw(st.integers(1, 3))
    queries, keys = draw(sides(rows)), draw(sides(rows))
    if draw(st.booleans()):
        queries = queries.tail(draw(st.integers(1, len(queries))))
    return MemoryRule(queries, keys), rows


def packed_row(random_set: RandomSet, rows: int | None = None) -> Connectivity:
    """The first samples of a set, in one row."""
    rows = random_set.num_samples if rows is None else rows
    token_set = random_set.join()
    some = replace(
        token_set,
        content=token_set.content[:rows],
        connectivity=token_set.connectivity.select(torch.arange(rows)),
        lengths=tuple(random_set.lengths[:rows]),
    )
    return pack(some).connectivity


def num_queries(rule: MemoryRule) -> int:
    return rule.queries.query_segment.shape[1]


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float | None) -> Tensor:
    """Attention token by token, over those that are allowed; zero where none is."""
    group_size = q.shape[1] // k.shape[1]
    out = torch.zeros(*q.shape[:3], v.shape[3])
    for b in range(q.shape[0]):
        for i in range(q.shape[2]):
            here = allowed[b, i]
            if not here.any():
                continue
            for head in range(q.shape[1]):
                keys, values = k[b, head // group_size, here], v[b, head // group_size, here]
                scores = keys @ q[b, head, i] * (q.shape[3] ** -0.5 if scale is None else scale)
                out[b, head, i] = scores.softmax(0) @ values
    return out


def test_private_tokens_are_no_memory() -> None:
    """Their set may have them, and no other may attend to them."""
    private = RandomSet({"scratch": replace(group("item", "scratch", 2, [2]), private=True)}, {}).join().connectivity
    queries = RandomSet({"text": group("causal", "text", 3, [3])}, {}).join().connectivity
    with pytest.raises(ValueError, match="private tokens cannot be a memory"):
        MemoryRule(queries, private).render()
    assert isinstance(MemoryRule(private, queries).render(), Full)


@examples(150)
@given(rules())
def test_dense_equals_the_reference(drawn: tuple[MemoryRule, int]) -> None:
    rule, rows = drawn
    expected = rule.reference().expand(rows, -1, -1)
    assert expected.shape == (rows, num_queries(rule), len(rule.keys))
    assert rule.dense().expand(rows, *expected.shape[1:]).equal(expected)


@examples(100)
@given(rules(), st.sampled_from([(4, None), (2, 1.0), (1, None)]))
def test_the_rendering_follows_the_rule(drawn: tuple[MemoryRule, int], switches: tuple[int, float | None]) -> None:
    """With grouped queries and without scale; exactly zero where nothing is allowed, and gradients that are finite."""
    (rule, rows), (num_kv_heads, scale) = drawn, switches
    generator = torch.Generator().manual_seed(0)
    allowed = rule.reference().expand(rows, -1, -1)
    queries, keys = allowed.shape[1:]
    q = torch.randn(rows, 4, queries, 8, generator=generator, requires_grad=True)
    k = torch.randn(rows, num_kv_heads, keys, 8, generator=generator, requires_grad=True)
    v = torch.randn(rows, num_kv_heads, keys, 8, generator=generator, requires_grad=True)
    attended = rule.render().attend(q, k, v, scale=scale)
    torch.testing.assert_close(attended, attention_by_hand(q, k, v, allowed, scale), atol=1e-5, rtol=1e-5)
    nothing = ~allowed.any(-1)
    assert not attended.transpose(1, 2)[nothing].any()
    attended.square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert q.grad is not None
    assert v.grad is not None
    assert not q.grad.transpose(1, 2)[nothing].any()
    unattended = ~allowed.any(1)
    assert not v.grad.transpose(1, 2)[unattended].any(), "a value that no query attends to gets no gradient"


@examples(100)
@given(rules())
def test_no_mask_only_where_all_is_allowed(drawn: tuple[MemoryRule, int]) -> None:
    """`Full` is chosen exactly where both sides promise that nothing is padded or packed; then all is allowed."""
    rule, _ = drawn
    promised = not (rule.keys.padded or rule.keys.packed or rule.queries.packed)
    rendering = rule.render()
    assert isinstance(rendering, Full if promised else DenseOrZero)
    assert not promised or rule.reference().all()


@examples(50)
@given(random_sets(), random_sets(private=False))
def test_sets_as_they_are_joined(one: RandomSet, other: RandomSet) -> None:
    """Every token, padding included, attends to all that its own sample has on the other side, and nothing else."""
    rows = min(one.num_samples, other.num_samples)
    queries, keys = (s.join().connectivity.select(torch.arange(rows)) for s in (one, other))
    rule = MemoryRule(queries, keys)
    expected = keys.valid.expand(rows, -1)[:, None].expand(-1, len(queries), -1)
    assert rule.reference().expand(rows, -1, -1).equal(expected)
    assert rule.dense().expand(rows, len(queries), -1).equal(expected)


def test_packed_rows_attend_to_their_own_segment() -> None:
    """Both sides packed into one row: each sample's tokens attend to that sample's memory."""
    text = RandomSet({"text": group("causal", "text", 3, [3, 2])}, {})
    sound = RandomSet({"sound": group("item", "sound", 2, [1, 2])}, {})
    mask = MemoryRule(packed_row(text), packed_row(sound)).dense()[0].int().tolist()
    assert mask == [[1, 0, 0]] * 3 + [[0, 1, 1]] * 2


@examples(60)
@given(random_sets(), random_sets(private=False), st.sampled_from([(4, None), (1, 1.0)]))
def test_packed_sets_are_computed_segment_by_segment(
    one: RandomSet, other: RandomSet, switches: tuple[int, float | None]
) -> None:
    """Group by group, without a mask, what the dense rule gives; and everything stays in the graph."""
    rows = min(one.num_samples, other.num_samples)
    rule, (num_kv_heads, scale) = MemoryRule(packed_row(one, rows), packed_row(other, rows)), switches
    rendering = rule.render()
    assert isinstance(rendering, PerSegment)
    generator = torch.Generator().manual_seed(0)
    allowed = rule.reference()
    queries, keys = allowed.shape[1:]
    q = torch.randn(1, 4, queries, 8, generator=generator, requires_grad=True)
    k = torch.randn(1, num_kv_heads, keys, 8, generator=generator, requires_grad=True)
    v = torch.randn(1, num_kv_heads, keys, 8, generator=generator, requires_grad=True)
    attended = rendering.attend(q, k, v, scale=scale)
    torch.testing.assert_close(attended, attention_by_hand(q, k, v, allowed, scale), atol=1e-5, rtol=1e-5)
    attended.square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_on_another_device_the_rule_is_a_block_mask() -> None:
    """The sample without a memory gets zero there, too."""
    text = RandomSet({"text": group("causal", "text", 3, [3, 2, 1])}, {})
    sound = RandomSet({"sound": group("item", "sound", 2, [1, 0, 2])}, {})
    rule = MemoryRule(packed_row(text), packed_row(sound))
    q, k, v = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    attended = rule._flex().attend(q, k, v)
    torch.testing.assert_close(attended, attention_by_hand(q, k, v, rule.reference(), None), atol=1e-5, rtol=1e-5)


def test_a_position_bias_is_refused() -> None:
    rendering = MemoryRule(tokens([[0]], [[True]], True, False), tokens([[0]], [[True]], True, False)).render()
    q = torch.randn(1, 1, 1, 4)
    with pytest.raises(ValueError, match="a position bias has no meaning between two sets"):
        rendering.attend(q, q, q, bias=torch.zeros(1, 1, 1, 1))


def test_rows_of_a_memory() -> None:
    """In any order, any number of times; what all rows share stays shared."""
    hidden = torch.randn(2, 3, 4)
    own = tokens([[0, 0, 0]] * 2, [[True, True, False], [True, False, False]], True, False)
    shared = tokens([[0, 0, 0]], [[True] * 3], False, False)
    index = torch.tensor([1, 1, 0])
    selected = Memory(hidden, own).select(index)
    assert selected.hidden.equal(hidden[index])
    assert selected.connectivity.valid.sum(1).tolist() == [1, 1, 2]
    assert Memory(hidden, shared).select(index).connectivity.valid.shape == (1, 3)
