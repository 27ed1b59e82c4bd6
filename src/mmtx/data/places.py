"""Where the samples of all splits stand in their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass

import numpy

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Places:
    """Every sample of a dataset once, in the order of the data.

    Attributes:
        splits: of each, the place of its split in `SPLITS`.
        indices: of each, its index there.
        rows: of each, its row in its table, from 0; where there is none, its index.
    """

    splits: numpy.ndarray
    indices: numpy.ndarray
    rows: numpy.ndarray

    @classmethod
    def one_after_another(cls, items: Mapping[str, Sized]) -> Places:
        """Split after split."""
        sizes = [len(items[split]) if split in items else 0 for split in SPLITS]
        indices = numpy.concatenate([numpy.arange(size) for size in sizes])
        return cls(numpy.repeat(numpy.arange(len(SPLITS)), sizes), indices, indices)

    @classmethod
    def of_rows(cls, items: Mapping[str, numpy.ndarray], tables: Sequence[int]) -> Places:
        """The rows of joined tables, each of which is in one split.

        Args:
            items: rows of each split, rising.
            tables: how many rows each table has.
        """
        rows = numpy.concatenate([items[split] for split in SPLITS])
        order, each = numpy.argsort(rows), cls.one_after_another(items)
        own = numpy.concatenate([numpy.arange(size) for size in tables])
        return cls(each.splits[order], each.indices[order], own)
