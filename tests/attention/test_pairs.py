"""Pairs that attend, against the rule in plain Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, random_sets, windows

from mmtx.attention import pairs
from mmtx.attention.pairs import num_memory_pairs, num_pairs, num_real
from mmtx.tokens import pack


@pytest.mark.parametrize("at_once", [pairs.AT_ONCE, 1], ids=["whole", "in_parts"])
def test_pairs_are_those_of_the_rule(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "AT_ONCE", at_once)

    @examples(30)
    @given(random_sets(), windows)
    def check(random_set: RandomSet, window: int | None) -> None:
        connectivity, rows = random_set.join().connectivity, random_set.num_samples
        valid = connectivity.valid.expand(rows, -1)
        expected = int((connectivity.reference(window).expand(rows, -1, -1) & valid[:, :, None]).sum())
        row = pack(replace(random_set.join(), lengths=tuple(random_set.lengths))).connectivity
        assert num_pairs(connectivity, rows, window) == num_pairs(row, 1, window) == expected
        assert num_real(connectivity, rows) == num_real(row, 1) == sum(random_set.lengths)

    check()


@examples(30)
@given(random_sets(), st.data())
def test_pairs_with_a_memory(random_set: RandomSet, data: st.DataObject) -> None:
    """Every real token attends to all real tokens of its sample's memory."""
    lengths, order = random_set.lengths, data.draw(st.permutations(range(random_set.num_samples)))
    token_set = replace(random_set.join(), lengths=tuple(lengths))
    whole, rows = token_set.connectivity, torch.tensor(order)
    memory = replace(whole, valid=whole.valid.expand(len(lengths), -1)[rows])
    expected = sum(lengths[i] * lengths[order[i]] for i in range(len(lengths)))
    assert num_memory_pairs(whole, memory, len(lengths)) == expected
    row = pack(token_set).connectivity
    assert num_memory_pairs(row, row, 1) == sum(length**2 for length in lengths)
