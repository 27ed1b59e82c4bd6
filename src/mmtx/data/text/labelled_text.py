"""Texts with one class each, from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.files.table import read_table
from mmtx.data.stratified_split import hold_out_fraction
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, check_fraction, nearest, refuse_together


class LabelledText(Source):
    """Names: ``text``, ``label``. A text stands between the marks of its vocabulary; long ones are truncated.

    Rows are split one by one: a text that the table has twice may be in two splits.

    Args:
        path: a table (``.csv``, ``.tsv``, ``.jsonl``), as `mmtx.data.files.table.read_table` reads it.
        text: name of its column of texts.
        label: name of its column of classes; they are numbered in the order of their spelling.
        vocabulary: of the texts.
        max_length: ids of a text, marks included.
        val_fraction: validation share, stratified by class; 0: none.
        test_fraction: test share, likewise.
        split_seed: of the choice.
    """

    def __init__(
        self,
        *,
        path: str,
        text: str,
        label: str,
        vocabulary: TextVocabulary,
        max_length: int,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
    ) -> None:
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        if max_length < 3:
            raise InvalidValue("max_length", max_length, "must hold two marks and an id")
        rows = _rows(path, {"text": text, "label": label})
        self.class_names = self.fitted.classes("label", sorted({name for _, name in rows}))
        if len(self.class_names) < 2:
            raise InvalidValue("path", path, f"has {len(self.class_names)} classes in its column '{label}'; at least 2")
        self._texts = [content for content, _ in rows]
        self._classes = torch.tensor([self.class_names.index(name) for _, name in rows])
        self.max_length, self.vocabulary = max_length, vocabulary
        rest, test = hold_out_fraction(self._classes, "test_fraction", test_fraction, len(rows), split_seed)
        train, val = hold_out_fraction(self._classes[rest], "val_fraction", val_fraction, len(rows), split_seed + 1)
        self._parts = {"train": rest[train].tolist(), "val": rest[val].tolist(), "test": test.tolist()}
        train_texts = [self._texts[i] for i in self._parts["train"]]
        unseen = [self._texts[i] for i in (*self._parts["val"], *self._parts["test"])]
        self.fitted.vocabulary("text", vocabulary, train_texts, marks=True, held_out=unseen)

    @property
    def specs(self) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, self.vocabulary.size, self.max_length)
        label = Field((), torch.long, len(self.class_names))
        return {
            "text": Spec({"ids": ids}, vocabulary=self.vocabulary),
            "label": Spec({"class": label}, class_names=self.class_names),
        }

    def train(self) -> Split:
        return self._split("train")

    def val(self) -> Split | None:
        return self._split("val") if self._parts["val"] else None

    def test(self) -> Split | None:
        return self._split("test") if self._parts["test"] else None

    def _split(self, name: str) -> Split:
        return Samples(len(self._parts[name]), partial(self._sample, self._parts[name]))

    def _sample(self, part: Sequence[int], i: int) -> Sample:
        begin, end = self.vocabulary.begin, self.vocabulary.end
        assert begin is not None
        assert end is not None
        ids = self.vocabulary.encode(self._texts[part[i]])[: self.max_length - 2]
        return {"text": {"ids": torch.tensor([begin, *ids, end])}, "label": {"class": self._classes[part[i]].clone()}}


def _rows(path: str, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """Text and class of every row; `columns` are the names of their columns, by key."""
    table = read_table("path", path, texts=[columns["text"]], labels=[columns["label"]])
    for key, column in columns.items():
        if column not in table.columns:
            raise InvalidValue(key, column, f"is not a column of {table.file}; {nearest(column, table.columns)}")
    refuse_together(table.problems, str(table.file))
    return [(row.values[columns["text"]], row.values[columns["label"]]) for row in table.rows]
