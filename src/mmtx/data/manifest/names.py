"""The names of a manifest: what each declares, and its fields in a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from mmtx.batch import Field, Spec, Vocabulary
from mmtx.data.files.lists import Lists
from mmtx.data.manifest.files import FileColumn, read_fields
from mmtx.data.manifest.kind import is_missing
from mmtx.data.manifest.numbers import Shape
from mmtx.data.specs import class_spec, labels_spec, text_spec
from mmtx.data.tables.rows import Rows


class Name(ABC):
    """A name of the data."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """What it declares."""

    @abstractmethod
    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        """Its fields in a row; None where the row lacks it."""


class NamedFiles(Name):
    """Pictures or sounds, decoded when they are needed.

    Args:
        rows: of the table.
        column: that holds them.
        optional: a row may lack it.
    """

    def __init__(self, rows: Rows, column: FileColumn, optional: bool) -> None:
        self._rows, self._column, self._optional = rows, column, optional

    @property
    def spec(self) -> Spec:
        return self._column.spec

    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        cells = self._rows.cells(row, self._column.columns)
        if self._optional and is_missing(cells):
            return None
        return read_fields(self._column, self._rows, row, cells[0], split)


class NamedClasses(Name):
    """Classes, one of each row, or several.

    Args:
        codes: of each row.
        code_of: of what is found in the lists, its place among `names`.
        names: of all classes.
        several: whether a row has any number of them.
    """

    def __init__(self, codes: Lists, code_of: Sequence[int], names: tuple[str, ...], several: bool) -> None:
        self._codes, self._names, self._several = codes, names, several
        self._code_of = torch.tensor(code_of)

    @property
    def spec(self) -> Spec:
        return labels_spec(self._names) if self._several else class_spec(self._names)

    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        codes = self._code_of[torch.from_numpy(self._codes[row]).long()]
        if not self._several:
            return {"class": codes[0]} if len(codes) else None
        labels = torch.zeros(len(self._names), dtype=torch.bool)
        labels[codes] = True
        return {"labels": labels}


class NamedIds(Name):
    """Texts as ids.

    Args:
        ids: of each row.
        vocabulary: that they are of.
        max_length: of any row that may come; None: the longest of these.
    """

    def __init__(self, ids: Lists, vocabulary: Vocabulary, max_length: int | None) -> None:
        self._ids, self._vocabulary = ids, vocabulary
        self._max_length = max_length or max(int(ids.lengths.max()), 1)

    @property
    def spec(self) -> Spec:
        return text_spec(self._vocabulary, self._max_length)

    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        ids = torch.from_numpy(self._ids[row].astype(numpy.int64))
        return {"ids": ids} if len(ids) else None


class NamedNumbers(Name):
    """A number, a vector or a series of each row.

    Args:
        values: of each row.
        shape: of all rows.
        mean: that is subtracted, of each number of a step or a vector.
        std: that divides after.
    """

    def __init__(self, values: Lists, shape: Shape, mean: Tensor, std: Tensor) -> None:
        self._values, self._shape, self._mean, self._std = values, shape, mean, std

    @property
    def spec(self) -> Spec:
        longest = max(int(self._values.lengths.max()) // self._shape.width, 1)
        is_series = self._shape.steps is None
        return Spec({"values": Field(self._shape.of_field, torch.float32, max_length=longest if is_series else None)})

    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        values = torch.from_numpy(self._values[row])
        if not len(values):
            return None
        return {"values": (values.view(-1, len(self._mean)) - self._mean).div(self._std).view(self._shape.of_row)}
