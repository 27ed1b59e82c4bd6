"""The packing plan: where the tokens of a packed row come from, and the way back."""

from __future__ import annotations

from dataclasses import replace

import torch
from drawings import drawing, row
from hypothesis import given
from random_sets import RandomSet, examples, random_sets

from mmtx.attention.packing import Packing, grouped
from mmtx.tokens import TokenSet, pack, split


def packed_row(random_set: RandomSet) -> TokenSet:
    return pack(replace(random_set.join(), lengths=tuple(random_set.lengths)))


def test_the_drawn_example() -> None:
    (drawn,) = drawing(Packing, "sample_0", "sample_1", "row", "segment", "index")
    real = torch.tensor([[cell != "." for cell in drawn[f"sample_{i}"]] for i in range(2)])
    packing = Packing.of(tuple(real.sum(1).tolist()), real)
    cells = [*drawn["sample_0"], *drawn["sample_1"]]
    assert [cells[index] for index in packing.index.tolist()] == drawn["row"]
    assert row(packing.index) == drawn["index"] and row(packing.segment[0]) == drawn["segment"]


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


def test_places_of_equal_lengths() -> None:
    assert grouped((3, 1, 3, 0)) == [(3,), (1,), (0, 2)]
    assert grouped(((2, 1), (1, 5), (2, 1))) == [(1,), (0, 2)]
