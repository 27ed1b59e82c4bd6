"""The interface of kinds of columns: how the cells of a row become the fields of a name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from mmtx.data.files.file_bytes import FileBytes
from mmtx.data.tables.rows import Cells, Unreadable

FileContent = Path | FileBytes


class Kind(ABC):
    """How one name is read from its columns.

    Attributes:
        columns: of the table.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    @abstractmethod
    def parse(self, cell: object) -> object:
        """The value of one column; raises `ValueError` with a predicate where it cannot be read."""

    def read(self, cells: Cells) -> list[object]:
        """The values of all columns; raises `ValueError` with the column and a predicate."""
        values = []
        for column, cell in zip(self.columns, cells, strict=True):
            try:
                if isinstance(cell, Unreadable):
                    raise ValueError(cell.problem)
                values.append(self.parse(cell))
            except ValueError as error:
                raise ValueError(f"{column} {error}") from None
        return values


def is_missing(cells: Cells) -> bool:
    """Whether a row has nothing in some columns."""
    return all(cell is None or cell == "" or (isinstance(cell, dict) and not any(cell.values())) for cell in cells)
