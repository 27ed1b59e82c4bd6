"""Who may listen to whom, for random sets: the derivation, the mask and every rendering, against plain Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from random_sets import Group, RandomSet, examples, group, random_sets, windows
from torch import Tensor

from mmtx.attention.kernels import Causal, Dense, Flex, Full, PerSegment, Rendering
from mmtx.attention.rule import Connectivity, Shape, grouped
from mmtx.tokens import TokenSet, pack, split


def listen(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """Attention as its definition has it, with every key head repeated for its group of queries."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    return scores.masked_fill(~allowed[:, None], float("-inf")).softmax(-1) @ v


def packed_row(random_set: RandomSet) -> TokenSet:
    return pack(replace(random_set.join(), lengths=tuple(random_set.lengths)))


def assert_hears(rendering: Rendering, connectivity: Connectivity, rows: int, window: int | None, seed: int) -> None:
    """A rendering gives what the rule gives, at every valid token: with and without bias, groups and scale."""
    generator = torch.Generator().manual_seed(seed)
    allowed = connectivity.reference(window).expand(rows, -1, -1)
    queries, keys = allowed.shape[1:]
    valid = connectivity.valid[:, keys - queries :].expand(rows, -1)[:, None, :, None]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    for num_kv_heads, bias_rows, scale in ((4, None, None), (2, 1, 1.0), (1, rows, None)):
        q, k, v = draw(rows, 4, queries, 8), draw(rows, num_kv_heads, keys, 8), draw(rows, num_kv_heads, keys, 8)
        bias = None if bias_rows is None else draw(bias_rows, 4, queries, keys)
        parts = _parts(bias, rendering) if isinstance(rendering, PerSegment) and bias is not None else bias
        heard = rendering.attend(q, k, v, bias=parts, scale=scale)
        expected = listen(q, k, v, allowed, bias, scale)
        assert heard.isfinite().all()
        torch.testing.assert_close(heard * valid, expected * valid, atol=1e-5, rtol=1e-5)


def _parts(bias: Tensor, rendering: PerSegment) -> tuple[Tensor, ...]:
    """The bias of each call, cut out of that of the whole row."""
    start = [sum(rendering.asked[:sample]) for sample in range(len(rendering.asked))]
    spans = [slice(start[sample], start[sample] + length) for sample, length in enumerate(rendering.asked)]
    return tuple(torch.stack([bias[0, :, spans[s], spans[s]] for s in call.samples]) for call in rendering.calls)


@examples(150)
@given(random_sets())
def test_order_follows_the_clocks(random_set: RandomSet) -> None:
    """`join` against the rule in plain Python: clocks end to end for each sample, ties by the place in the set."""
    allowed, positions, valid = random_set.rule()
    connectivity = random_set.join().connectivity
    rows = random_set.num_samples
    expected = torch.tensor(allowed)
    assert connectivity.reference().expand(rows, -1, -1).equal(expected)
    assert connectivity.dense().expand(rows, -1, -1).equal(expected)
    real = torch.tensor(valid)
    assert connectivity.valid.expand(rows, -1).equal(real)
    placed = connectivity.position.expand(rows, -1, -1)
    assert placed[real].equal(torch.tensor(positions).view(rows, -1, 3)[real])


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


@examples(80)
@given(random_sets(), windows, st.data())
def test_renderings_hear_what_the_rule_allows(random_set: RandomSet, window: int | None, data: st.DataObject) -> None:
    connectivity = random_set.join().connectivity
    queries = data.draw(st.sampled_from([None, 1, len(connectivity)]))
    if queries is not None:
        connectivity = connectivity.tail(queries)
    assert_hears(connectivity.render(window), connectivity, random_set.num_samples, window, seed=0)


@examples(60)
@given(random_sets(), windows)
def test_a_packed_row_hears_its_own_sample(random_set: RandomSet, window: int | None) -> None:
    """Packing changes where tokens stand and nothing about who hears whom, rendered for a CPU and for other devices."""
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
    assert_hears(connectivity.render(window), connectivity, 1, window, seed=1)
    assert_hears(Dense(connectivity.dense(window)[:, None]), connectivity, 1, window, seed=1)


@examples(60)
@given(random_sets())
def test_packing_and_back(random_set: RandomSet) -> None:
    """Every real token comes back to its place with its own content; everything else is zero."""
    token_set, row = random_set.join(), packed_row(random_set)
    unpacked = split(row.content, row.connectivity, row.spans)
    padded = split(token_set.content, token_set.connectivity, token_set.spans)
    assert unpacked.hidden.equal(padded.hidden)
    real = token_set.connectivity.valid.expand(random_set.num_samples, -1)
    assert unpacked.hidden[real].equal(token_set.content[real])
    assert not unpacked.hidden[~real].any()
    assert row.connectivity.valid.sum() == sum(random_set.lengths)
    assert len(row.connectivity) == max(sum(random_set.lengths), 1), "nothing is computed but what is there"


@examples(40)
@given(random_sets())
def test_a_bias_is_made_segment_by_segment(random_set: RandomSet) -> None:
    """What each call is given is what the whole row's bias says of its segments, and no part is larger than it."""
    connectivity = packed_row(random_set).connectivity

    def of(query: Tensor, key: Tensor) -> Tensor:
        return (query[:, :, None] * 7 - key[:, None]).sum(-1)[:, None].float()

    rendering, parts = connectivity.render(), connectivity.bias(of)
    assert isinstance(rendering, PerSegment)
    assert isinstance(parts, tuple)
    expected = _parts(of(connectivity.position, connectivity.position), rendering)
    for part, own in zip(parts, expected, strict=True):
        assert part.expand_as(own).equal(own)


@examples(30)
@given(random_sets(), windows, st.booleans(), st.booleans())
@example(RandomSet({"image": group("item", "image", 4, [4], columns=2)}, {}), 1, False, True)
def test_flex_attention_is_given_the_rule(random_set: RandomSet, window: int | None, packed: bool, tail: bool) -> None:
    token_set = random_set.join()
    if packed:
        token_set = packed_row(random_set)
    connectivity = token_set.connectivity.tail(1) if tail else token_set.connectivity
    expected = connectivity.reference(window)
    rendering = connectivity.render(window, flex=True)
    assert isinstance(rendering, Flex)
    b, i, j = (torch.arange(size) for size in expected.shape)
    assert rendering.block_mask.mask_mod(b[:, None, None], 0, i[:, None], j).equal(expected)


@pytest.mark.parametrize(("packed", "window", "tail"), [(True, 2, False), (False, None, True)], ids=str)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_hears_what_the_rule_allows(packed: bool, window: int | None, tail: bool) -> None:
    groups = {"image": group("item", "image", 4, [4, 0, 4]), "text": group("causal", "text", 5, [2, 5, 0])}
    random_set = RandomSet(groups, {})
    token_set, rows = random_set.join(), 3
    if packed:
        token_set, rows = packed_row(random_set), 1
    connectivity = token_set.connectivity.tail(1) if tail else token_set.connectivity
    assert_hears(connectivity.render(window, flex=True), connectivity, rows, window, seed=2)


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
    assert_hears(connectivity.render(), connectivity, rows, None, seed=5)
    assert_hears(tail.render(), tail, rows, None, seed=5)


@pytest.mark.parametrize(("kind", "part"), [("item", Full), ("causal", Causal), ("blocks", Dense)])
def test_segments_of_equal_length_are_one_call(kind: str, part: type[Rendering]) -> None:
    random_set = RandomSet({"name": group(kind, "name", 4, [4, 2, 0, 4, 3])}, {})
    rendering = packed_row(random_set).connectivity.render()
    assert isinstance(rendering, PerSegment)
    assert rendering.asked == rendering.heard == (4, 2, 0, 4, 3, 0)
    assert [call.samples for call in rendering.calls] == [(1,), (4,), (0, 3)]
    assert {type(call.rendering) for call in rendering.calls} == {part}


def test_known_connectivities() -> None:
    """The design's examples, written out."""
    dt = {name: group("causal", "step", 2, [2]) for name in ("return", "state", "action")}
    mask = RandomSet(dt, {}).join().connectivity.dense()[0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],  # return 0
        [1, 1, 1, 0, 1, 0],  # return 1 hears all of step 0
        [1, 0, 1, 0, 0, 0],  # state 0 hears return 0
        [1, 1, 1, 1, 1, 0],  # state 1
        [1, 0, 1, 0, 1, 0],  # action 0 hears return 0 and state 0
        [1, 1, 1, 1, 1, 1],  # action 1
    ]
    caption = {"image": group("item", "image", 2, [2]), "text": group("causal", "text", 2, [2])}
    mask = RandomSet(caption, {}).join().connectivity.dense()[0].int().tolist()
    assert mask == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_padding_never_moves_a_position() -> None:
    """A caption begins after the items that its own sample has, whatever the other samples of the batch have."""
    groups = {"first": group("causal", "first", 4, [4, 1, 0]), "second": group("causal", "second", 2, [2, 2, 2])}
    time = RandomSet(groups, {}).join().connectivity.position[:, 4:, 0]
    assert time.tolist() == [[4, 5], [1, 2], [0, 1]]


def test_places_of_equal_lengths() -> None:
    assert grouped((3, 1, 3, 0)) == [(3,), (1,), (0, 2)]
    assert grouped(((2, 1), (1, 5), (2, 1))) == [(1,), (0, 2)]


def test_a_prefix_of_a_packed_row_is_not_rendered_by_the_whole_rows_segments() -> None:
    random_set = RandomSet({"name": group("causal", "name", 4, [4, 2])}, {})
    prefix = packed_row(random_set).connectivity.prefix(5)
    assert_hears(prefix.render(), prefix, 1, None, seed=3)


def test_a_bias_of_segments_is_not_one_of_whole_rows() -> None:
    q = torch.randn(1, 1, 2, 4)
    with pytest.raises(ValueError, match="has no meaning for whole rows"):
        Full().attend(q, q, q, bias=(torch.zeros(1, 1, 2, 2),))


@pytest.mark.parametrize("shape", list(Shape))
def test_a_row_with_nothing_real_stays_finite(shape: Shape) -> None:
    integers = torch.zeros(2, 3, dtype=torch.long)
    connectivity = Connectivity(
        order=torch.arange(3).expand(2, 3) if shape is Shape.CAUSAL else integers,
        position=torch.zeros(2, 3, 3, dtype=torch.long),
        segment=integers,
        valid=torch.tensor([[True, True, False], [False, False, False]]),
        shape=shape,
        packed=False,
    )
    assert_hears(connectivity.render(), connectivity, 2, None, seed=4)
    assert connectivity.dense()[1].equal(torch.eye(3, dtype=torch.bool))


def test_flex_attention_refuses_what_it_cannot_do() -> None:
    connectivity = RandomSet({"name": group("causal", "name", 4, [4])}, {}).join().connectivity
    rendering = connectivity.render(flex=True)
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="attention dropout=0.1"):
        rendering.attend(q, q, q, dropout=0.1)
    with pytest.raises(ValueError, match="no backward on a CPU"):
        rendering.attend(q.requires_grad_(), q, q)
