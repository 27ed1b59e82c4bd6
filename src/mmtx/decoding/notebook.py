"""Which tokens of a cache, or steps of a window, are notes: what stands between two marks, and is kept when all around
it is dropped."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Notes(NamedTuple):
    """What stays of an episode that outgrows its window.

    Attributes:
        most: steps of notes in a window; beyond as many, the oldest of them is dropped.
        marks: actions at which a note begins and ends, whose steps belong to it.
    """

    most: int
    marks: tuple[int, int]


class Notebook:
    """Notes of the rows of a stream, and the place that each row drops next.

    With six places, the first of them kept, and ``<`` and ``>`` as marks::

        text     a b < c > d e f
        cached   a b < c > d        e comes in:  b is dropped, the oldest that is no note
                 a < c > d e        f comes in:  d is dropped
                 a < c > e f

    Args:
        rows: number of texts.
        first: places that are never dropped.
        most: tokens of notes, marks among them; beyond as many, the oldest of them is dropped.
        marks: ids at which a note begins and ends.
        device: of the ids.
    """

    def __init__(self, rows: int, first: int, most: int, marks: tuple[int, int], device: torch.device) -> None:
        self._first, self._most, self._marks = first, most, marks
        self._cached = torch.zeros(rows, 0, dtype=torch.bool, device=device)  # of each place, whether it is a note's
        self._open = torch.zeros(rows, dtype=torch.bool, device=device)  # whether a note goes on behind the last token

    def read(self, ids: Int[Tensor, "B n"]) -> None:
        """Takes in the tokens that follow."""
        begins, ends = (ids == mark for mark in self._marks)
        place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        begun, ended = ((place * at).cummax(1).values for at in (begins, ends))  # the last of each so far; 0: none
        inside = (begun > ended) | ((ended == 0) & self._open[:, None])
        before = torch.cat([self._open[:, None], inside[:, :-1]], dim=1)
        self._cached = torch.cat([self._cached, inside | (ends & before)], dim=1)
        self._open = inside[:, -1]

    def next_dropped(self) -> Int[Tensor, " B"]:
        """Of each row, the place that makes room for another token; those behind it move up."""
        notes = self._cached[:, self._first :]
        too_many = notes.sum(1, keepdim=True) > self._most
        place = (notes == too_many).int().argmax(1) + self._first  # the oldest of those that may go
        kept = behind(place, self._cached.shape[1])
        self._cached = self._cached.gather(1, kept)
        return place

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Goes on with some rows, in any order, any number of times."""
        self._cached, self._open = self._cached[index], self._open[index]


def behind(place: Int[Tensor, " B"], length: int) -> Int[Tensor, "B N"]:
    """All places but one of each row, in their order."""
    others = torch.arange(length - 1, device=place.device)
    return others + (others >= place[:, None])
