"""Samples of several texts, each with its own name: what is read, and what is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

import numpy
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.process.stopping import track


class IdLists:
    """Many lists of ids, concatenated in one tensor: cheap to pass to another process.

    Args:
        ids: of all lists.
        starts: of each list.
        stops: of each list.
    """

    def __init__(
        self, ids: Int32[Tensor, " total"], starts: Int64[Tensor, " lists"], stops: Int64[Tensor, " lists"]
    ) -> None:
        self._ids, self._starts, self._stops = ids, starts, stops

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> IdLists:
        ids, ends = array("i"), array("q", [0])
        for each in lists:
            ids.extend(each)
            ends.append(len(ids))
        bounds = torch.from_numpy(numpy.array(ends, dtype=numpy.int64))
        return cls(torch.from_numpy(numpy.array(ids, dtype=numpy.int32)), bounds[:-1], bounds[1:])

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Int64[Tensor, " n"]:
        return self._ids[self._starts[index] : self._stops[index]].long()

    @property
    def lengths(self) -> Int64[Tensor, " lists"]:
        return self._stops - self._starts

    def select(self, index: Int64[Tensor, " chosen"]) -> IdLists:
        """Some of the lists, in the given order; a list may be selected more than once."""
        return IdLists(self._ids, self._starts[index], self._stops[index])

    def joined(self, counts: Int64[Tensor, " groups"], without: int) -> IdLists:
        """Joins neighbouring lists, the first ``counts[0]`` and so on, without one of the ids.

        Only for lists as `of` makes them, where neighbours are adjacent in memory.
        """
        kept = self._ids != without
        kept_before = torch.cat([torch.zeros(1, dtype=torch.long), kept.cumsum(0)])
        stops = counts.cumsum(0)
        return IdLists(self._ids[kept], kept_before[self._starts[stops - counts]], kept_before[self._stops[stops - 1]])


TextPart = Mapping[str, IdLists]
"""The ids of one split: for each name as many lists."""


class TextPairs(ItemSource):
    """Names: those of `vocabularies`, each with ``ids``.

    Args:
        vocabularies: of each name, fitted.
        max_lengths: most ids of a sample, of each name.
        train: training texts.
        val: validation texts; may be empty.
        test: test texts; may be empty.
    """

    def __init__(
        self,
        *,
        vocabularies: Mapping[str, TextVocabulary],
        max_lengths: Mapping[str, int],
        train: TextPart,
        val: TextPart,
        test: TextPart,
    ) -> None:
        self._vocabularies, self._max_lengths = vocabularies, max_lengths
        self._lists = {"train": train, "val": val, "test": test}
        self.items = {split: range(len(next(iter(part.values())))) for split, part in self._lists.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {name: text_spec(vocabulary, self._max_lengths[name]) for name, vocabulary in self._vocabularies.items()}

    def sample(self, item: int, split: str) -> Sample:
        return {name: {"ids": lists[item]} for name, lists in self._lists[split].items()}


def encode_all(vocabulary: TextVocabulary, texts: Iterable[str]) -> IdLists:
    """Ids of texts, each between the marks that the vocabulary has."""
    return IdLists.of(vocabulary.encode_marked(text) for text in track(texts, "encoding texts"))
