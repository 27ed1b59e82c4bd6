"""What is guessed is what stood there before, and a text that does not repeat itself is left alone."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtx.decoding.prompt_lookup import REACH, WORTH, Lookup

texts = st.lists(st.integers(0, 3), max_size=60)


def guesses(ids: list[int]) -> list[tuple[int, list[int]]]:
    """Column and ids of all guesses that are made while the text is written as the decoder does: a guess is followed as
    long as it is right, and then comes one id more."""
    lookup, column, made = Lookup(ids[:1]), 1, []
    while column < len(ids):
        guess = lookup.guess(len(ids) - column)
        if guess:
            made.append((column, guess))
        right = accepted(ids, column, guess)
        for new in ids[column : column + right + 1]:
            lookup.append(new)
        column += right + 1
    return made


def accepted(ids: list[int], column: int, guess: list[int]) -> int:
    hits = [a == b for a, b in zip(guess, ids[column:], strict=False)]
    return hits.index(False) if False in hits else len(hits)


@given(texts)
def test_a_guess_is_how_the_text_went_on_before(ids: list[int]) -> None:
    for column, guess in guesses(ids):
        assert 1 <= len(guess) <= min(REACH, len(ids) - column)
        before = ids[:column]
        sources = [j for j in range(2, column) if ids[j - 2 : j] == before[-2:]]
        assert any(guess == continued(before, j, len(guess)) for j in sources)


def continued(ids: list[int], source: int, count: int) -> list[int]:
    """A copy that may run into what it has just written."""
    written = list(ids)
    for i in range(count):
        written.append(written[source + i])
    return written[len(ids) :]


@pytest.mark.parametrize("period", [1, 2, 7])
def test_what_repeats_itself_is_guessed_right(period: int) -> None:
    ids = [i % period for i in range(100)]
    made = guesses(ids)
    assert made[0][0] <= 2 * period + 2
    assert all(guess == ids[column : column + len(guess)] for column, guess in made)
    assert [b - a for (a, _), (b, _) in pairwise(made)] == [REACH + 1] * (len(made) - 1)


def test_what_never_repeats_itself_is_never_guessed() -> None:
    assert guesses(list(range(100))) == []


@given(st.randoms(use_true_random=False))
def test_guesses_that_do_not_pay_become_rare(random: Random) -> None:
    """Each needs twice as many ids in a row that were right, or as many that paid before."""
    ids = [random.randrange(3) for _ in range(400)]
    made = guesses(ids)
    paid = sum(accepted(ids, column, guess) >= WORTH for column, guess in made)
    assert len(made) - paid <= paid + 9, "2 ** 9 ids in a row would have to be right"


def test_nothing_is_guessed_where_there_is_no_room() -> None:
    lookup = Lookup([5] * 10)
    assert lookup.guess(0) == []
    assert lookup.guess(2) == [5, 5]
    assert Lookup([]).guess(5) == []
