"""Prompt lookup decoding: drafts of a text's next ids, copied from where it went on the same way before."""

from collections.abc import Sequence

MAX_DRAFT = 15
"""Ids drafted at a time."""

MIN_ACCEPTED = 3
"""Accepted ids that pay for the columns computed with a draft (measured on a CPU)."""


class PromptLookup:
    """Drafts the next ids of one text: those that followed the newest id where it stood last.

    The model verifies a draft by computing all its columns at once, which costs less than one after another and
    changes nothing of what is written (Yang et al. 2023, "Inference with Reference", arXiv 2304.04487). Copying has to
    have been right for some ids before the next draft. That number doubles after a draft that did not pay and halves
    after one that did, so that a text without repetitions is hardly slowed.

    Args:
        ids: of the text so far.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[int, int] = {}  # the column behind each id's last occurrence
        self._source = 0  # column from which the next id would be copied; 0: none
        self._num_right = 0  # ids in a row that copying has got right
        self._min_right = 1  # of them that a draft needs
        self._drafted_at = 0  # length of the text at the last draft; 0: none since it was judged
        for new in ids:
            self.append(new)

    def append(self, new: int) -> None:
        """Adds the id that the text really goes on with."""
        if self._source and self._ids[self._source] == new:
            self._source, self._num_right = self._source + 1, self._num_right + 1
        else:
            self._source, self._num_right = self._after.get(new, 0), 0
        self._ids.append(new)
        self._after[new] = len(self._ids)

    def draft(self, limit: int) -> list[int]:
        """The next ids, at most `limit`; none where copying has not been right for long enough."""
        if self._drafted_at:
            paid = len(self._ids) - 1 - self._drafted_at >= MIN_ACCEPTED
            self._min_right = max(1, self._min_right // 2) if paid else self._min_right * 2
            self._drafted_at = 0
        count = min(MAX_DRAFT, limit)
        if not self._source or self._num_right < self._min_right or count < 1:
            return []
        self._drafted_at = len(self._ids)
        period = self._ids[self._source :]
        return [period[i % len(period)] for i in range(count)]
