"""Splits of several datasets, concatenated."""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import accumulate

from mmtx.batch import Sample
from mmtx.data.base import Split, origin_of


class ConcatSplit:
    """Splits end to end. Samples of two parts share no batch, so that a batch has the names of its part alone.

    Args:
        splits: of each part.
        names: that the samples of each part may have.

    Attributes:
        first: index of each part's first sample.
    """

    def __init__(self, splits: Mapping[str, Split], names: Mapping[str, Collection[str]]) -> None:
        self.splits, self.names = dict(splits), names
        *starts, self._length = accumulate(map(len, splits.values()), initial=0)
        self.first = dict(zip(splits, starts, strict=True))
        self._parts, self._starts = list(splits), starts

    def __len__(self) -> int:
        return self._length

    def locate(self, index: int) -> tuple[str, int]:
        """The part of a sample, and its index there."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        part = self._parts[bisect_right(self._starts, index) - 1]
        return part, index - self.first[part]

    def __getitem__(self, index: int) -> Sample:
        part, own = self.locate(index)
        return self.splits[part][own]

    def origin(self, index: int) -> str:
        part, own = self.locate(index)
        return origin_of(self.splits[part], own)
