"""The interface of tables that are read row by row, and several of them as one."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

Cells = tuple[object, ...]
"""Values of some columns in one row: None where there is none."""


class Unreadable(NamedTuple):
    """In the place of a value: what is wrong with it, as a predicate."""

    problem: str


class Block(NamedTuple):
    """Rows that stand together in a file, and are read together."""

    rows: int
    bytes: int


class Rows(ABC):
    """The rows of one table.

    Attributes:
        columns: all there are.
        blocks: of rows, one after the other.
    """

    columns: tuple[str, ...]
    blocks: Sequence[Block]

    def __len__(self) -> int:
        return sum(block.rows for block in self.blocks)

    @abstractmethod
    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        """Every row in order."""

    @abstractmethod
    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        """One row."""

    @abstractmethod
    def file(self, row: int) -> Path:
        """The file of a row; paths in the row begin at its folder."""

    @abstractmethod
    def where(self, row: int) -> str:
        """The file and the row, as an error names them."""

    def problems(self) -> Sequence[str]:
        """What is wrong with rows that are not among these."""
        return ()

    def tables(self) -> Sequence["Rows"]:
        """One for each file that has rows."""
        return [self] if len(self) else []


class JoinedRows(Rows):
    """The rows of several tables, one after the other."""

    def __init__(self, tables: Sequence[Rows]) -> None:
        self._tables = tables
        self.columns = tuple(dict.fromkeys(column for table in tables for column in table.columns))
        self.blocks = [block for table in tables for block in table.blocks]
        self._starts = [0, *accumulate(map(len, tables))]

    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        for table in self._tables:
            yield from table.scan(columns)

    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        table, own = self._locate(row)
        return table.cells(own, columns)

    def file(self, row: int) -> Path:
        table, own = self._locate(row)
        return table.file(own)

    def where(self, row: int) -> str:
        table, own = self._locate(row)
        return table.where(own)

    def problems(self) -> Sequence[str]:
        return [problem for table in self._tables for problem in table.problems()]

    def tables(self) -> Sequence[Rows]:
        return [one for table in self._tables for one in table.tables()]

    def _locate(self, row: int) -> tuple[Rows, int]:
        number = bisect_right(self._starts, row) - 1
        return self._tables[number], row - self._starts[number]
