"""Corruptions of texts: counts, inverses and distributions by loops over single texts."""

from __future__ import annotations

from collections import Counter
from math import comb

import numpy as np
import pytest
import torch

from mmtx.errors import InvalidValue
from mmtx.objectives.corruptions import Corruption, Deletions, Infilling, Rewritten, Shuffles, Spans

SENTINELS = torch.arange(1000, 900, -1)
T5 = Spans(share=0.15, mean_span=3.0)


def texts(lengths: list[int]) -> torch.Tensor:
    """Ids that are all different, from 1."""
    return torch.arange(1, max(lengths) + 1).expand(len(lengths), -1)


def run(corruption: Corruption, lengths: list[int], seed: int = 0) -> Rewritten:
    return corruption(texts(lengths), torch.tensor(lengths), SENTINELS, torch.Generator().manual_seed(seed))


def rows(ids: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    assert ids.shape[1] >= int(lengths.max())
    return [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]


def filled(read: list[int], written: list[int]) -> list[int]:
    """The text, by putting what stands behind each sentinel into its place."""
    spans: dict[int, list[int]] = {}
    for number in written:
        if number > 900:
            spans[number] = []
        else:
            spans[next(reversed(spans))].append(number)
    return [i for number in read for i in (spans[number] if number > 900 else [number])]


@pytest.mark.parametrize("corruption", [T5, Spans(share=0.5, mean_span=1.0), Spans(share=0.9, mean_span=2.5)])
def test_spans_are_counted_and_inverted(corruption: Spans) -> None:
    """By T5's arithmetic, with numpy's rounding; a text begins with what is kept, and ends with what is left out."""
    lengths = list(range(90))
    found = run(corruption, lengths)
    read, written = rows(found.read, found.read_lengths), rows(found.written, found.written_lengths)
    for length, one, other in zip(lengths, read, written, strict=True):
        assert filled(one, other) == list(range(1, length + 1))
        if length < 2:
            assert other == []
            continue
        noise = min(max(int(np.round(length * corruption.share)), 1), length - 1)
        spans = min(max(int(np.round(noise / corruption.mean_span)), 1), noise, length - noise)
        assert len(one) == length - noise + spans and len(other) == noise + spans
        assert [i for i in one if i > 900] == [i for i in other if i > 900] == SENTINELS[:spans].tolist()
        assert one[0] == 1 and other[0] == 1000 and one[-1] > 900
    assert found.read.shape[1] == max(map(len, read)) and found.written.shape[1] == max(map(len, written))


def test_the_sizes_of_t5() -> None:
    """568 ids become 512 that are read and 114 that are written, each with its end mark (t5's own docstring)."""
    found = run(T5, [568])
    assert found.read_lengths.item() + 1 == 512 and found.written_lengths.item() + 1 == 114


def test_every_way_to_cut_is_as_probable() -> None:
    """Of 9 ids 4 are left out in 2 spans: comb(4, 1) ways to cut 5, comb(3, 1) to cut 4."""
    count, corruption = 6000, Spans(share=0.45, mean_span=2.0)
    assert [int(i) for i in corruption.counts(torch.tensor(9))] == [4, 2]
    gone = corruption.left_out(torch.full((count,), 9), 9, torch.Generator().manual_seed(0))
    seen = Counter(map(tuple, gone.tolist()))
    ways = comb(4, 1) * comb(3, 1)
    assert len(seen) == ways
    chi_squared = sum((n - count / ways) ** 2 / (count / ways) for n in seen.values())
    assert chi_squared < 31.3, "11 degrees of freedom, p = 0.001"


def test_infilling_reads_one_sentinel_a_span_and_writes_everything() -> None:
    lengths = [40, 7, 1, 0]
    found, spans = run(Infilling(share=0.3, mean_span=3.0), lengths), run(Spans(share=0.3, mean_span=3.0), lengths)
    same = [[1000 if i > 900 else i for i in row] for row in rows(spans.read, spans.read_lengths)]
    assert rows(found.read, found.read_lengths) == same
    assert rows(found.written, found.written_lengths) == [list(range(1, n + 1)) for n in lengths]
    assert Infilling(share=0.3, mean_span=3.0).num_sentinels(40) == 1


def test_deletions_keep_the_order_of_what_is_left() -> None:
    lengths = [40, 7, 2, 1, 0]
    found = run(Deletions(share=0.3), lengths)
    for length, read in zip(lengths, rows(found.read, found.read_lengths), strict=True):
        assert len(read) == length - min(round(length * 0.3), max(length - 1, 0))
        assert read == sorted(set(read)) and set(read) <= set(range(1, length + 1))
    assert rows(found.written, found.written_lengths) == [list(range(1, n + 1)) for n in lengths]


def test_shuffles_move_no_id_farther_than_their_reach() -> None:
    lengths = [60, 13, 1, 0]
    found = run(Shuffles(reach=3), lengths)
    moves = []
    for length, read in zip(lengths, rows(found.read, found.read_lengths), strict=True):
        assert sorted(read) == list(range(1, length + 1))
        moves += [abs(place - (number - 1)) for place, number in enumerate(read)]
    assert max(moves) == 3
    assert rows(found.written, found.written_lengths) == [list(range(1, n + 1)) for n in lengths]


@pytest.mark.parametrize(
    "corruption", [T5, Infilling(share=0.3, mean_span=2.0), Deletions(share=0.4), Shuffles(reach=2)]
)
def test_a_text_alone_is_as_in_a_longer_batch(corruption: Corruption) -> None:
    """What is behind a text's end is never read."""
    ids, lengths = texts([20, 20]).clone(), torch.tensor([20, 9])
    first = corruption(ids, lengths, SENTINELS, torch.Generator().manual_seed(0))
    ids[1, 9:] = 7777
    again = corruption(ids, lengths, SENTINELS, torch.Generator().manual_seed(0))
    assert rows(first.read, first.read_lengths) == rows(again.read, again.read_lengths)
    assert rows(first.written, first.written_lengths) == rows(again.written, again.written_lengths)


def test_refusals() -> None:
    with pytest.raises(InvalidValue, match=r"share=1\.0 must be above 0 and below 1"):
        Spans(share=1.0, mean_span=3.0)
    with pytest.raises(InvalidValue, match=r"mean_span=0\.5 must be at least 1"):
        Spans(share=0.1, mean_span=0.5)
    with pytest.raises(InvalidValue, match=r"share=0\.0 must be above 0"):
        Deletions(share=0.0)
    with pytest.raises(InvalidValue, match="reach=0 must be at least 1"):
        Shuffles(reach=0)
