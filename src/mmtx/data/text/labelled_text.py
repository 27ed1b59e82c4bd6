"""Texts with one class each, from a table."""

from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.files.table import read_table
from mmtx.data.specs import class_spec, text_spec
from mmtx.data.stratified_split import hold_out_fraction
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, check_fraction, nearest, refuse_together


class LabelledText(ItemSource):
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
        self.class_names = self.fitted.classes("label", sorted({name for *_, name in rows}))
        if len(self.class_names) < 2:
            raise InvalidValue("path", path, f"has {len(self.class_names)} classes in its column '{label}'; at least 2")
        self._origins, self._texts = [where for where, *_ in rows], [content for _, content, _ in rows]
        self._classes = torch.tensor([self.class_names.index(name) for *_, name in rows])
        self.max_length, self.vocabulary = max_length, vocabulary
        rest, test = hold_out_fraction(self._classes, "test_fraction", test_fraction, len(rows), split_seed)
        train, val = hold_out_fraction(self._classes[rest], "val_fraction", val_fraction, len(rows), split_seed + 1)
        self.items = {"train": rest[train].tolist(), "val": rest[val].tolist(), "test": test.tolist()}
        train_texts = [self._texts[i] for i in self.items["train"]]
        unseen = [self._texts[i] for i in (*self.items["val"], *self.items["test"])]
        self.fitted.vocabulary("text", vocabulary, train_texts, marks=True, held_out=unseen)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {"text": text_spec(self.vocabulary, self.max_length), "label": class_spec(self.class_names)}

    def origin(self, item: int, split: str) -> str:
        return self._origins[item]

    def sample(self, item: int, split: str) -> Sample:
        begin, end = self.vocabulary.begin, self.vocabulary.end
        assert begin is not None and end is not None
        ids = self.vocabulary.encode(self._texts[item])[: self.max_length - 2]
        return {"text": {"ids": torch.tensor([begin, *ids, end])}, "label": {"class": self._classes[item].clone()}}


def _rows(path: str, columns: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Place, text and class of every row; `columns` are the names of their columns, by key."""
    table = read_table("path", path, texts=[columns["text"]], labels=[columns["label"]])
    for key, column in columns.items():
        if column not in table.columns:
            raise InvalidValue(key, column, f"is not a column of {table.file}; {nearest(column, table.columns)}")
    refuse_together(table.problems, str(table.file))
    return [(row.where, row.values[columns["text"]], row.values[columns["label"]]) for row in table.rows]
