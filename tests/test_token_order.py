"""The layout of a set by clocks: order and position of every token."""

from __future__ import annotations

from dataclasses import replace

import torch
from drawings import drawing, row
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group, random_sets

from mmtx import token_order
from mmtx.attention.rule import Pattern
from mmtx.attention.time_order import TimeOrder
from mmtx.tokens import pack


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
@given(random_sets(), st.booleans())
def test_an_index_counts_the_tokens_of_each_sample(random_set: RandomSet, by_time: bool) -> None:
    """Against plain Python, also where they are laid in the order of time and packed."""
    assert random_set.join().connectivity.index is None
    expected, (_, _, valid) = random_set.index(), random_set.rule()
    made = random_set.join(by_time, indexed=True)
    index, real = made.connectivity.index, torch.tensor(valid)
    assert index is not None
    assert index.expand(random_set.num_samples, -1)[real].equal(torch.tensor(expected)[real])
    packed = pack(replace(made, lengths=tuple(random_set.lengths))).connectivity
    order = made.connectivity.order.expand(random_set.num_samples, -1).tolist()
    laid = []
    for b, row_real in enumerate(valid):
        there = [i for i, is_real in enumerate(row_real) if is_real]
        laid += [expected[b][i] for i in (sorted(there, key=lambda i: order[b][i]) if made.in_time else there)]
    assert packed.index is not None and packed.index[0].tolist()[: len(laid)] == laid


def test_the_drawn_examples() -> None:
    """Interleaved steps, a caption behind its image, one whose sample lacks the image, and copies of a text."""
    steps, caption, alone, copies = drawing(token_order, "token", "time", "order")
    made = RandomSet({name: group("causal", "step", 2, [2]) for name in ("return", "state", "action")}, {}).join()
    assert steps["token"] == [f"{letter}{step}" for letter in "RSA" for step in range(2)]
    (laid,) = drawing(token_order, "laid")
    columns = TimeOrder.of(made.connectivity.order, made.connectivity.valid).columns
    assert [steps["token"][column] for column in columns[0].tolist()] == laid["laid"]
    assert (
        row(made.connectivity.order[0]) == steps["order"] and row(made.connectivity.position[0, :, 0]) == steps["time"]
    )
    groups = {"image": group("item", "image", 2, [2, 0]), "text": group("causal", "text", 3, [3, 3])}
    connectivity = RandomSet(groups, {}).join().connectivity
    for sample, drawn in enumerate((caption, alone)):
        real = connectivity.valid[sample]
        assert row(connectivity.order[sample], real) == drawn["order"]
        assert row(connectivity.position[sample, :, 0], real) == drawn["time"]
    noisy, clean = replace(group("blocks", "text", 4, [4]), private=True), group("blocks", "text", 4, [4])
    connectivity = RandomSet({"noisy": noisy, "clean": clean}, {}).join().connectivity
    assert copies["token"] == [f"{letter}{index}" for letter in "NC" for index in range(4)]
    assert row(connectivity.order[0]) == copies["order"] and row(connectivity.position[0, :, 0]) == copies["time"]
    indices = drawing(token_order, "tokens", "index")
    for named, drawn in zip(({"noisy": noisy, "clean": clean}, groups), indices, strict=True):
        index = RandomSet(named, {}).join(indexed=True).connectivity.index
        assert index is not None and row(index[0]) == drawn["index"]
    ((drawn,), private) = drawing(token_order, "private"), connectivity.private
    assert private is not None and row(private[0]) == drawn["private"]


def test_padding_never_moves_a_position() -> None:
    """A caption begins after the items that its own sample has, whatever the other samples of the batch have."""
    groups = {"first": group("causal", "first", 4, [4, 1, 0]), "second": group("causal", "second", 2, [2, 2, 2])}
    time = RandomSet(groups, {}).join().connectivity.position[:, 4:, 0]
    assert time.tolist() == [[4, 5], [1, 2], [0, 1]]


@examples(100)
@given(random_sets())
def test_what_the_host_promises_of_a_set_in_the_order_of_time(random_set: RandomSet) -> None:
    """Orders that rise from token to token where it says so, and it says so wherever it knows of each token's item."""
    token_set = random_set.join(by_time=True)
    promised = token_set.in_time or token_set.connectivity.pattern
    on_clock = [group.clock for group in random_set.groups.values()]
    apart = all(
        (group.kind == "causal" or group.size == 1 and group.kind in ("item", "blocks"))
        and not group.private
        and not (random_set.mutual.get(group.clock) and on_clock.count(group.clock) > 1)
        for group in random_set.groups.values()
    )
    assert (promised is Pattern.CAUSAL) == apart
    allowed, _, valid = random_set.rule()
    for row_allowed, real in zip(allowed, valid, strict=True):
        seen = [i for i, is_real in enumerate(real) if is_real]
        mutual = any(row_allowed[i][j] and row_allowed[j][i] for i in seen for j in seen if i != j)
        assert not (apart and mutual)
