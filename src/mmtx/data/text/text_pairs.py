"""Samples of several texts, each with its own name: what is read, and what is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
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


class TextPairs(Source):
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
        self._train, self._val, self._test = train, val, test

    @property
    def specs(self) -> Mapping[str, Spec]:
        specs = {}
        for name, vocabulary in self._vocabularies.items():
            ids = Field((None,), torch.long, num_classes=vocabulary.size, max_length=self._max_lengths[name])
            specs[name] = Spec({"ids": ids}, vocabulary=vocabulary)
        return specs

    def train(self) -> Split:
        return _samples(self._train)

    def val(self) -> Split | None:
        return _samples(self._val) if _size(self._val) else None

    def test(self) -> Split | None:
        return _samples(self._test) if _size(self._test) else None


def encode_all(vocabulary: TextVocabulary, texts: Iterable[str]) -> IdLists:
    """Ids of texts, each between the marks that the vocabulary has."""
    return IdLists.of(vocabulary.encode_marked(text) for text in track(texts, "encoding texts"))


def _size(part: TextPart) -> int:
    return len(next(iter(part.values())))


def _samples(part: TextPart) -> Split:
    return Samples(_size(part), partial(_sample, part))


def _sample(part: TextPart, i: int) -> Sample:
    return {name: {"ids": lists[i]} for name, lists in part.items()}
