"""Guesses of how a text goes on, by looking up how it went on before."""

from __future__ import annotations

from collections.abc import Sequence

REACH = 15
"""Ids that are guessed at a time."""

WORTH = 3
"""Ids that a guess must get right to pay for the columns that were computed with it (measured on a CPU)."""


class Lookup:
    """Guesses the next ids of one text: those that followed the newest id where it stood last.

    A guess is checked by computing all its columns at once, which costs less than computing them one after another
    and changes nothing of what is written (Yang et al. 2023, "Inference with Reference", arXiv 2304.04487). What has
    been right for long is guessed to stay right. How long that is, adapts: it doubles after a guess that did not pay
    and halves after one that did, so that a text that never repeats itself is hardly slowed.

    Args:
        ids: of the text so far.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[int, int] = {}  # where the id stood last, plus 1
        self._source = 0  # column from which the next id would be copied; 0: none
        self._right = 0  # ids in a row that copying has got right
        self._least = 1  # so many have to be right before a guess
        self._guessed_at = 0  # ids that were there at the last guess; 0: none since it was judged
        for new in ids:
            self.append(new)

    def append(self, new: int) -> None:
        """What the text really goes on with."""
        if self._source and self._ids[self._source] == new:
            self._source, self._right = self._source + 1, self._right + 1
        else:
            self._source, self._right = self._after.get(new, 0), 0
        self._ids.append(new)
        self._after[new] = len(self._ids)

    def guess(self, most: int) -> list[int]:
        """The next ids, at most so many; none where nothing has been right for long enough."""
        if self._guessed_at:
            paid = len(self._ids) - 1 - self._guessed_at >= WORTH
            self._least = max(1, self._least // 2) if paid else self._least * 2
            self._guessed_at = 0
        count = min(REACH, most)
        if not self._source or self._right < self._least or count < 1:
            return []
        self._guessed_at = len(self._ids)
        period = self._ids[self._source :]
        return [period[i % len(period)] for i in range(count)]
