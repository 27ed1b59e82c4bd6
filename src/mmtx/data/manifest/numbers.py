"""Numbers: one for each row, a vector, or a series of either."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy

from mmtx.data.files.cells import shown
from mmtx.data.manifest.kind import Kind
from mmtx.data.tables.rows import Cells
from mmtx.errors import UserError

LARGEST = 3.4e38
"""Of a float of 32 bits."""


@dataclass(frozen=True)
class Shape:
    """Of the numbers of a name.

    Attributes:
        steps: of every row; None: rows differ, and the name is a series.
        width: numbers of a step.
    """

    steps: int | None
    width: int

    def __str__(self) -> str:
        return f"series of {self.width} numbers a step" if self.steps is None else f"{self.steps * self.width} numbers"

    @property
    def of_field(self) -> tuple[int | None, ...]:
        if self.steps is None:
            return (None, self.width)
        return (self.steps * self.width,)

    @property
    def of_row(self) -> tuple[int, ...]:
        """That of the numbers of one row, -1 for what its length tells."""
        return tuple(-1 if size is None else size for size in self.of_field)


class NumberColumns(Kind):
    """Numbers from one column or several. A cell is a number, a list of numbers, or a list of vectors; in CSV, lists
    are written as JSON. Several columns are the entries of a vector, or the channels of a series.

    Args:
        columns: of the table.
        kind: number, vector or series; ``numbers``: as they are.
    """

    def __init__(self, columns: Sequence[str], kind: str) -> None:
        super().__init__(columns)
        self.kind = kind
        self.nested = False

    def parse(self, cell: object) -> numpy.ndarray:
        if isinstance(cell, str) and cell.lstrip().startswith("["):
            cell = _from_json(cell)
        if isinstance(cell, list):
            if not cell:
                raise ValueError("is an empty list")
            if self.kind == "number":
                raise ValueError(f"is {shown(cell)}, not one number")
            if isinstance(cell[0], list):
                self.nested = True
                widths = {len(step) if isinstance(step, list) else 0 for step in cell}
                if len(widths) > 1 or not min(widths):
                    raise ValueError("has steps of unequal sizes")
                return numpy.array([[_number(each) for each in step] for step in cell], numpy.float32)
            return numpy.array([[_number(each)] for each in cell], numpy.float32)
        return numpy.array([[_number(cell)]], numpy.float32)

    def values(self, cells: Cells) -> numpy.ndarray:
        """The numbers of a row, ``(steps, width)``. Raises `ValueError` as `read` does."""
        if all(type(cell) is float and abs(cell) <= LARGEST for cell in cells):  # most tables have nothing else
            return numpy.array([cells], numpy.float32)
        parts = self.read(cells)
        lengths = {len(part) for part in parts}  # type: ignore[arg-type]
        if len(lengths) > 1:
            raise ValueError(f"{', '.join(self.columns)} have unequal lengths {sorted(lengths)}")
        return numpy.concatenate(parts, axis=1)  # type: ignore[arg-type]

    def shape(self, width: int, lengths: numpy.ndarray, where: str) -> Shape:
        """The shape of all rows, of so many numbers each. Raises `UserError` where the kind cannot have it."""
        steps = numpy.unique(lengths // width)
        is_series = self.kind == "series" or (self.kind == "numbers" and (self.nested or len(steps) > 1))
        if is_series:
            return Shape(None, width)
        if not len(steps):  # no row has any
            return Shape(1, width)
        if len(steps) > 1:
            counts = f"{steps[0] * width} to {steps[-1] * width}"
            raise UserError(f"{where} has {counts} numbers a row: a vector has as many in each; kinds has series")
        return Shape(int(steps[0]), width)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is {shown(text)}, not a list of numbers: {error}") from None


def _number(cell: object) -> float:
    if cell is None or cell == "":
        raise ValueError("is missing")
    try:
        number = float(cell) if isinstance(cell, int | float | str) else None
    except ValueError:
        number = None
    if number is None:
        raise ValueError(f"is {shown(cell)}, not a number")
    if not isfinite(number) or abs(number) > LARGEST:
        raise ValueError(f"is {shown(cell)}, not a finite number of 32 bits")
    return number
