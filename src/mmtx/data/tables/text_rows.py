"""Rows of CSV, TSV and JSONL files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmtx.data.files.table import found_rows
from mmtx.data.tables.rows import Block, Cells, Rows


class TextRows(Rows):
    """A table that is text, read whole, as `mmtx.data.files.table` reads it."""

    def __init__(self, key: str, path: str) -> None:
        self._file, found = found_rows(key, path)
        self._rows = [(place, values) for place, values in found if isinstance(values, dict)]
        self._problems = [f"{self._file}, {place} {problem}" for place, problem in found if isinstance(problem, str)]
        self.columns = tuple(dict.fromkeys(column for _, values in self._rows for column in values))
        self.blocks = [Block(len(self._rows), 0)]

    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        return (self.cells(row, columns) for row in range(len(self._rows)))

    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        return tuple(map(self._rows[row][1].get, columns))

    def file(self, row: int) -> Path:
        return self._file

    def where(self, row: int) -> str:
        return f"{self._file}, {self._rows[row][0]}"

    def problems(self) -> Sequence[str]:
        return self._problems
