"""A draft copies how the text went on before; a text that does not repeat itself is left alone."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtx.decoding.prompt_lookup import MAX_DRAFT, MIN_ACCEPTED, PromptLookup

texts = st.lists(st.integers(0, 3), max_size=60)


def drafts(ids: list[int]) -> list[tuple[int, list[int]]]:
    """Column and ids of all drafts while the text is decoded: what is right of a draft is accepted, and one id more
    follows."""
    lookup, column, made = PromptLookup(ids[:1]), 1, []
    while column < len(ids):
        draft = lookup.draft(len(ids) - column)
        if draft:
            made.append((column, draft))
        right = accepted(ids, column, draft)
        for new in ids[column : column + right + 1]:
            lookup.append(new)
        column += right + 1
    return made


def accepted(ids: list[int], column: int, draft: list[int]) -> int:
    hits = [a == b for a, b in zip(draft, ids[column:], strict=False)]
    return hits.index(False) if False in hits else len(hits)


@given(texts)
def test_a_draft_is_how_the_text_went_on_before(ids: list[int]) -> None:
    for column, draft in drafts(ids):
        assert 1 <= len(draft) <= min(MAX_DRAFT, len(ids) - column)
        before = ids[:column]
        sources = [j for j in range(2, column) if ids[j - 2 : j] == before[-2:]]
        assert any(draft == continued(before, j, len(draft)) for j in sources)


def continued(ids: list[int], source: int, count: int) -> list[int]:
    """A copy that may run into what it has just written."""
    written = list(ids)
    for i in range(count):
        written.append(written[source + i])
    return written[len(ids) :]


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_repetition_is_drafted_right(period: int) -> None:
    ids = [i % period for i in range(100)]
    made = drafts(ids)
    assert made[0][0] <= 2 * period + 2
    assert all(draft == ids[column : column + len(draft)] for column, draft in made)
    assert [b - a for (a, _), (b, _) in pairwise(made)] == [MAX_DRAFT + 1] * (len(made) - 1)


def test_a_text_without_repetitions_is_never_drafted() -> None:
    assert drafts(list(range(100))) == []


@given(st.randoms(use_true_random=False))
def test_drafts_that_do_not_pay_become_rare(random: Random) -> None:
    """Each needs twice as many ids in a row that were right, or as many that paid before."""
    ids = [random.randrange(3) for _ in range(400)]
    made = drafts(ids)
    paid = sum(accepted(ids, column, draft) >= MIN_ACCEPTED for column, draft in made)
    assert len(made) - paid <= paid + 9, "2 ** 9 ids in a row would have to be right"


def test_nothing_is_drafted_where_there_is_no_room() -> None:
    lookup = PromptLookup([5] * 10)
    assert lookup.draft(0) == []
    assert lookup.draft(2) == [5, 5]
    assert PromptLookup([]).draft(5) == []
