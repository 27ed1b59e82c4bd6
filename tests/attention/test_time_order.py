"""Tokens of a row in the order of time, and back; a stack that attends does not see in which order they stand."""

from __future__ import annotations

from dataclasses import replace

import torch
from builders import POSITIONS, backbone
from drawings import drawing, row
from hypothesis import given
from hypothesis import strategies as st
from random_sets import WIDTH, RandomSet, examples, group, random_sets, windows

from mmtx.attention.rule import Pattern
from mmtx.attention.time_order import LONG, TimeOrder, pays_by_time
from mmtx.nn.backbone import Backbone
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary
from mmtx.tokens import HiddenStates, TokenSet, pack, split

SCHEMES = {
    "rotary": Positions(absolute=None, rotary=Rotary(axes=["time", "row"], base=10_000.0), bias=None),
    "alibi": POSITIONS["alibi"],
}


def test_the_drawn_example() -> None:
    (placed,), (laid,) = drawing(TimeOrder, "row", "order"), drawing(TimeOrder, "laid", "columns")
    groups = {
        name: group("causal", "step", 2, [1 if name == "action" else 2]) for name in ("return", "state", "action")
    }
    connectivity = (
        RandomSet({name: replace(own, promised=False) for name, own in groups.items()}, {}).join().connectivity
    )
    time_order = TimeOrder.of(connectivity.order, connectivity.valid)
    assert row(connectivity.order[0]) == placed["order"] and row(time_order.columns[0]) == laid["columns"]
    assert [placed["row"][column] for column in time_order.columns[0].tolist()] == laid["laid"]


@examples(100)
@given(random_sets())
def test_a_row_is_sorted_as_plain_lists_are(random_set: RandomSet) -> None:
    """By order, then place, what is not real last; every integer goes with its token, and all come back."""
    token_set = random_set.join(by_time=True)
    before, laid, rows = token_set.connectivity, pack(token_set).connectivity, random_set.num_samples
    order, valid = before.order.expand(rows, -1).tolist(), before.valid.expand(rows, -1).tolist()
    columns = [
        sorted(range(len(before)), key=lambda i: (not real[i], key[i] if real[i] else 0, i))
        for key, real in zip(order, valid, strict=True)
    ]
    if token_set.in_time is None:
        assert columns == [list(range(len(before)))] * rows
        return
    assert laid.time_order is not None and laid.time_order.columns.expand(rows, -1).tolist() == columns
    attends, expected = laid.reference().expand(rows, -1, -1), before.reference().expand(rows, -1, -1)
    for sample, own in enumerate(columns):
        assert attends[sample].equal(expected[sample][own][:, own])
    assert laid.time_order.restore(laid.time_order.lay(token_set.content)).equal(token_set.content)


def states(stack: Backbone, token_set: TokenSet) -> HiddenStates:
    packed = pack(token_set)
    return split(stack(packed.content + packed.place, packed.connectivity), packed.connectivity, token_set.spans)


@examples(60)
@given(random_sets(), windows, st.sampled_from(sorted(SCHEMES)), st.booleans())
def test_attention_gives_the_same_in_either_layout(
    random_set: RandomSet, window: int | None, scheme: str, packed: bool
) -> None:
    """Name by name, whatever the order in which the tokens stood."""
    changes = {"layers": "LG", "window": window} if window is not None else {}
    stack = backbone(dim=WIDTH, num_heads=1, positions=SCHEMES[scheme], init_std=0.5, **changes).double().eval()
    lengths = tuple(random_set.lengths) if packed else None
    by_name, in_time = (replace(random_set.join(by_time), lengths=lengths) for by_time in (False, True))
    expected, made = states(stack, by_name), states(stack, in_time)
    torch.testing.assert_close(made.hidden, expected.hidden, atol=1e-12, rtol=1e-12)
    rows = random_set.num_samples
    assert made.valid.expand(rows, -1).equal(expected.valid.expand(rows, -1)) and made.spans == expected.spans


def test_a_long_set_is_laid_where_that_makes_it_causal() -> None:
    """A decision transformer needs no mask then; a short one on a CPU has a cheap one, and pictures share an order."""
    names = ("return", "state", "action")

    def pattern(kind: str, size: int) -> Pattern:
        return pack(
            RandomSet({name: group(kind, "step", size, [size]) for name in names}, {}).join()
        ).connectivity.pattern

    assert pattern("causal", LONG) is Pattern.CAUSAL
    assert pattern("causal", 20) is Pattern.MIXED
    assert pattern("item", LONG) is Pattern.MIXED


def test_on_a_gpu_every_such_set_is_laid() -> None:
    assert pays_by_time(torch.zeros(1, 4, dtype=torch.long, device="meta"))
    assert not pays_by_time(torch.zeros(1, 4, dtype=torch.long))
