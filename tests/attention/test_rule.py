"""The rule of attention on random sets: its mask and every rendering of it, against plain Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from random_sets import Group, RandomSet, examples, group, random_sets, windows
from torch import Tensor

from mmtx.attention.flex import Flex
from mmtx.attention.kernels import KEYS, Causal, Dense, Full, OneQuery, Rendering
from mmtx.attention.per_segment import PerSegment
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.tokens import TokenSet, pack


def by_hand(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor,
    bias: Tensor | None,
    scale: float | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention as its definition has it, with every key head repeated for its group of queries."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~allowed[:, None], float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], dim=-1)
    return scores.softmax(-1)[..., : k.shape[2]] @ v


def packed_row(random_set: RandomSet) -> TokenSet:
    return pack(replace(random_set.join(), lengths=tuple(random_set.lengths)))


def assert_equals_rule(
    rendering: Rendering, connectivity: Connectivity, rows: int, window: int | None, seed: int
) -> None:
    """A rendering gives what the rule gives, at every valid token: with and without bias, groups, scale and sinks."""
    generator = torch.Generator().manual_seed(seed)
    allowed = connectivity.reference(window).expand(rows, -1, -1)
    queries, keys = allowed.shape[1:]
    valid = connectivity.valid[:, keys - queries :].expand(rows, -1)[:, None, :, None]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    for num_kv_heads, bias_rows, scale, has_sinks in ((4, None, None, False), (2, 1, 1.0, True), (1, rows, None, True)):
        q, k, v = draw(rows, 4, queries, 8), draw(rows, num_kv_heads, keys, 8), draw(rows, num_kv_heads, keys, 8)
        bias = None if bias_rows is None else draw(bias_rows, 4, queries, keys)
        parts = _parts(bias, rendering) if isinstance(rendering, PerSegment) and bias is not None else bias
        sinks = draw(4) if has_sinks else None
        attended = rendering.attend(q, k, v, bias=parts, scale=scale, sinks=sinks)
        expected = by_hand(q, k, v, allowed, bias, scale, sinks)
        assert attended.isfinite().all()
        torch.testing.assert_close(attended * valid, expected * valid, atol=1e-5, rtol=1e-5)


def _parts(bias: Tensor, rendering: PerSegment) -> tuple[Tensor, ...]:
    """The bias of each group of segments, cut out of that of the whole row."""
    start = [sum(rendering.query_lengths[:sample]) for sample in range(len(rendering.query_lengths))]
    spans = [slice(start[sample], start[sample] + length) for sample, length in enumerate(rendering.query_lengths)]
    return tuple(torch.stack([bias[0, :, spans[s], spans[s]] for s in group.samples]) for group in rendering.groups)


@examples(100)
@given(random_sets(), windows)
def test_dense_equals_the_reference(random_set: RandomSet, window: int | None) -> None:
    connectivity = random_set.join().connectivity
    rows = connectivity.reference(window).shape[0]
    assert connectivity.dense(window).expand(rows, -1, -1).equal(connectivity.reference(window))
    for queries in {1, len(connectivity)}:
        tail = connectivity.tail(queries)
        assert tail.reference(window).equal(connectivity.reference(window)[:, -queries:])
        assert tail.dense(window).expand(rows, -1, -1).equal(tail.reference(window))
    for length in {1, len(connectivity)}:
        prefix = connectivity.prefix(length)
        assert prefix.reference(window).equal(connectivity.reference(window)[:, :length, :length])
        assert prefix.dense(window).expand(rows, -1, -1).equal(prefix.reference(window))
    backwards = torch.arange(len(connectivity)).flip(0)
    arranged, selected = connectivity.arranged(backwards), connectivity.select(torch.arange(rows).flip(0))
    assert arranged.reference(window).equal(connectivity.reference(window).flip(1, 2))
    assert arranged.dense(window).expand(rows, -1, -1).equal(arranged.reference(window))
    assert selected.reference(window).equal(connectivity.reference(window).flip(0))
    assert selected.dense(window).expand(rows, -1, -1).equal(selected.reference(window))


@examples(80)
@given(random_sets(), windows, st.data())
def test_renderings_follow_the_rule(random_set: RandomSet, window: int | None, data: st.DataObject) -> None:
    connectivity = random_set.join().connectivity
    queries = data.draw(st.sampled_from([None, 1, len(connectivity)]))
    if queries is not None:
        connectivity = connectivity.tail(queries)
    assert_equals_rule(connectivity.render(window), connectivity, random_set.num_samples, window, seed=0)


@examples(50)
@given(random_sets(), windows, st.data())
def test_a_query_whose_place_the_host_does_not_know(
    random_set: RandomSet, window: int | None, data: st.DataObject
) -> None:
    """It attends as the rule has it, over a cache that has room for more keys than there are tokens."""
    connectivity = random_set.join().connectivity
    rows, length = connectivity.reference(window).shape[:2]
    column = data.draw(st.integers(0, length - 1))
    at, generator = connectivity.at(torch.tensor([column])), torch.Generator().manual_seed(column)
    assert at.query_position.equal(connectivity.position[:, [column]])
    rendering = at.render(window)
    assert isinstance(rendering, OneQuery)
    room = rendering.scores.shape[3]
    assert room % KEYS == 0 and 0 <= room - length < KEYS
    q, bias = (torch.randn(*shape, generator=generator) for shape in ((rows, 2, 1, 8), (1, 2, 1, length)))
    k, v = torch.randn(2, rows, 2, room, 8, generator=generator)
    allowed = connectivity.reference(window)[:, [column]]
    for own, padded in ((None, None), (bias, rendering.padded(bias))):
        expected = by_hand(q, k[:, :, :length], v[:, :, :length], allowed, own, None)
        torch.testing.assert_close(rendering.attend(q, k, v, bias=padded), expected, atol=1e-5, rtol=1e-5)
    sinks = torch.randn(2, generator=generator)
    expected = by_hand(q, k[:, :, :length], v[:, :, :length], allowed, bias, None, sinks)
    attended = rendering.attend(q, k, v, bias=rendering.padded(bias), sinks=sinks)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


@examples(60)
@given(random_sets(), windows)
def test_a_packed_row_attends_within_samples(random_set: RandomSet, window: int | None) -> None:
    """Packing changes where tokens stand and nothing of the mask, rendered for a CPU and for other devices."""
    connectivity = packed_row(random_set).connectivity
    packing = connectivity.packing
    assert packing is not None
    allowed, _, _ = random_set.rule()
    mask = connectivity.reference()[0]
    end = 0
    for b, length in enumerate(random_set.lengths):
        own = slice(end, end := end + length)
        real = packing.real[b]
        assert mask[own, own].equal(torch.tensor(allowed[b])[real][:, real])
        assert mask[own].sum() == mask[own, own].sum(), "nothing of another sample"
    assert connectivity.dense(window).equal(connectivity.reference(window))
    assert isinstance(connectivity.render(window), PerSegment)
    assert_equals_rule(connectivity.render(window), connectivity, 1, window, seed=1)
    assert_equals_rule(Dense(connectivity.dense(window)[:, None]), connectivity, 1, window, seed=1)


@examples(60)
@given(random_sets(), windows, st.booleans())
def test_no_gradient_reaches_what_may_not_be_attended(
    random_set: RandomSet, window: int | None, in_a_packed_row: bool
) -> None:
    """From each valid token, exactly zero; and some to every value that it attends to."""
    token_set = packed_row(random_set) if in_a_packed_row else random_set.join()
    connectivity, rows = token_set.connectivity, len(token_set.content)
    generator = torch.Generator().manual_seed(6)
    q, k, v = (torch.randn(rows, 1, len(connectivity), 4, generator=generator) for _ in range(3))
    rendering, v = connectivity.render(window), v.requires_grad_()
    allowed, valid = connectivity.reference(window), connectivity.valid.expand(rows, -1)
    for query in range(len(connectivity)):
        attended = rendering.attend(q, k, v)[:, :, query]
        (reached,) = torch.autograd.grad(attended.sum(), v)
        real = valid[:, query]
        expected = allowed.expand(rows, -1, -1)[real, query]
        assert (reached[real, 0] != 0).all(-1).equal(expected) and (reached[real, 0] != 0).any(-1).equal(expected)


@examples(40)
@given(random_sets())
def test_a_bias_is_made_segment_by_segment(random_set: RandomSet) -> None:
    """Each group's bias is that of the whole row at its segments, and no larger."""
    connectivity = packed_row(random_set).connectivity

    def of(query: Tensor, key: Tensor) -> Tensor:
        return (query[:, :, None] * 7 - key[:, None]).sum(-1)[:, None].float()

    rendering = connectivity.render()
    parts = connectivity.bias(rendering, of)
    assert isinstance(rendering, PerSegment)
    assert isinstance(parts, tuple)
    expected = _parts(of(connectivity.position, connectivity.position), rendering)
    for part, own in zip(parts, expected, strict=True):
        assert part.expand_as(own).equal(own)


@examples(30)
@given(random_sets(), windows, st.booleans(), st.booleans())
@example(RandomSet({"image": group("item", "image", 4, [4], columns=2)}, {}), 1, False, True)
def test_the_block_mask_is_the_rule(random_set: RandomSet, window: int | None, packed: bool, tail: bool) -> None:
    token_set = random_set.join()
    if packed:
        token_set = packed_row(random_set)
    connectivity = token_set.connectivity.tail(1) if tail else token_set.connectivity
    expected = connectivity.reference(window)
    rendering = connectivity.render(window, flex=True)
    assert isinstance(rendering, Flex)
    b, i, j = (torch.arange(size) for size in expected.shape)
    assert rendering.block_mask.mask_mod(b[:, None, None], 0, i[:, None], j).expand_as(expected).equal(expected)


@pytest.mark.parametrize(("packed", "window", "tail"), [(True, 2, False), (False, None, True)], ids=str)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_follows_the_rule(packed: bool, window: int | None, tail: bool) -> None:
    groups = {
        "image": group("item", "image", 4, [4, 0, 4]),
        "noisy": replace(group("blocks", "text", 5, [2, 5, 0]), private=True),
        "clean": group("blocks", "text", 5, [2, 5, 0]),
    }
    random_set = RandomSet(groups, {})
    token_set, rows = random_set.join(), 3
    if packed:
        token_set, rows = packed_row(random_set), 1
    connectivity = token_set.connectivity.tail(1) if tail else token_set.connectivity
    assert_equals_rule(connectivity.render(window, flex=True), connectivity, rows, window, seed=2)


@pytest.mark.parametrize(
    ("groups", "mutual", "expected"),
    [
        pytest.param({"image": group("item", "image", 3, [3, 3])}, {}, Full, id="one item"),
        pytest.param({"image": group("item", "image", 3, [3, 0])}, {}, Dense, id="one item, one sample absent"),
        pytest.param({"text": group("causal", "text", 3, [3, 3])}, {}, Causal, id="causal text"),
        pytest.param({"text": group("causal", "text", 3, [3, 1])}, {}, Causal, id="causal text, padded"),
        pytest.param(
            {"a": group("item", "frame", 2, [2]), "b": group("item", "frame", 2, [2])},
            {"frame": True},
            Full,
            id="two sensors of one moment",
        ),
        pytest.param(
            {"a": group("item", "frame", 2, [2]), "b": group("item", "frame", 2, [2])},
            {"frame": False},
            Dense,
            id="ties broken",
        ),
        pytest.param(
            {"a": group("item", "frame", 2, [2, 0]), "b": group("item", "frame", 2, [2, 2])},
            {"frame": True},
            Dense,
            id="two sensors, one absent",
        ),
        pytest.param(
            {"a": group("item", "a", 2, [2]), "b": group("causal", "b", 2, [2])}, {}, Dense, id="picture, then caption"
        ),
        pytest.param(
            {"a": group("causal", "step", 3, [3]), "b": group("causal", "step", 2, [2])}, {}, Dense, id="interleaved"
        ),
        pytest.param(
            {"a": replace(group("item", "a", 3, [3, 3]), private=True)}, {}, Full, id="one private item: all alike"
        ),
        pytest.param({"a": replace(group("causal", "a", 3, [3, 3]), private=True)}, {}, Dense, id="private steps"),
    ],
)
def test_the_cheapest_rendering_is_chosen(
    groups: dict[str, Group], mutual: dict[str, bool], expected: type[Rendering]
) -> None:
    connectivity = RandomSet(groups, mutual).join().connectivity
    assert type(connectivity.render()) is expected
    assert type(connectivity.render(window=2)) is Dense
    tail = connectivity.tail(1)
    rows = len(next(iter(groups.values())).lengths)
    assert_equals_rule(connectivity.render(), connectivity, rows, None, seed=5)
    assert_equals_rule(tail.render(), tail, rows, None, seed=5)


@pytest.mark.parametrize(
    ("kind", "private", "part"),
    [("item", False, Full), ("causal", False, Causal), ("blocks", False, Dense), ("item", True, Full)]
    + [("causal", True, Dense)],
)
def test_segments_of_equal_length_are_one_group(kind: str, private: bool, part: type[Rendering]) -> None:
    random_set = RandomSet({"name": replace(group(kind, "name", 4, [4, 2, 0, 4, 3]), private=private)}, {})
    rendering = packed_row(random_set).connectivity.render()
    assert isinstance(rendering, PerSegment)
    assert rendering.query_lengths == rendering.key_lengths == (4, 2, 0, 4, 3, 0)
    assert [group.samples for group in rendering.groups] == [(1,), (4,), (0, 3)]
    assert {type(group.rendering) for group in rendering.groups} == {part}


def test_known_connectivities() -> None:
    """The design's examples, written out."""
    dt = {name: group("causal", "step", 2, [2]) for name in ("return", "state", "action")}
    mask = RandomSet(dt, {}).join().connectivity.dense()[0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],  # return 0
        [1, 1, 1, 0, 1, 0],  # return 1 attends to all of step 0
        [1, 0, 1, 0, 0, 0],  # state 0 attends to return 0
        [1, 1, 1, 1, 1, 0],  # state 1
        [1, 0, 1, 0, 1, 0],  # action 0 attends to return 0 and state 0
        [1, 1, 1, 1, 1, 1],  # action 1
    ]
    caption = {"image": group("item", "image", 2, [2]), "text": group("causal", "text", 2, [2])}
    mask = RandomSet(caption, {}).join().connectivity.dense()[0].int().tolist()
    assert mask == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_prefix_of_a_packed_row_is_not_rendered_by_the_whole_rows_segments() -> None:
    random_set = RandomSet({"name": group("causal", "name", 4, [4, 2])}, {})
    prefix = packed_row(random_set).connectivity.prefix(5)
    assert_equals_rule(prefix.render(), prefix, 1, None, seed=3)


def test_a_bias_of_segments_is_not_one_of_whole_rows() -> None:
    q = torch.randn(1, 1, 2, 4)
    with pytest.raises(ValueError, match="has no meaning for whole rows"):
        Full().attend(q, q, q, bias=(torch.zeros(1, 1, 2, 2),))


@pytest.mark.parametrize("pattern", list(Pattern))
def test_a_row_with_nothing_real_stays_finite(pattern: Pattern) -> None:
    integers = torch.zeros(2, 3, dtype=torch.long)
    connectivity = Connectivity(
        order=torch.arange(3).expand(2, 3) if pattern is Pattern.CAUSAL else integers,
        position=torch.zeros(2, 3, 3, dtype=torch.long),
        segment=integers,
        valid=torch.tensor([[True, True, False], [False, False, False]]),
        pattern=pattern,
        packed=False,
    )
    assert_equals_rule(connectivity.render(), connectivity, 2, None, seed=4)
    assert connectivity.dense()[1].equal(torch.eye(3, dtype=torch.bool))


def test_flex_attention_refuses_what_it_cannot_do() -> None:
    connectivity = RandomSet({"name": group("causal", "name", 4, [4])}, {}).join().connectivity
    rendering = connectivity.render(flex=True)
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="attention dropout=0.1"):
        rendering.attend(q, q, q, dropout=0.1)
    with pytest.raises(ValueError, match="no backward on a CPU"):
        rendering.attend(q.requires_grad_(), q, q)
