"""The samples of some rows."""

from collections.abc import Collection, Mapping

import numpy

from mmtx.batch import Sample
from mmtx.data.manifest.names import Name
from mmtx.data.tables.rows import Rows


class RowSplit:
    """The samples of one split, of which only the names are read that are needed.

    Args:
        split: its name.
        table: that all rows are of.
        rows: of the split, rising.
        names: of the data.
    """

    def __init__(self, split: str, table: Rows, rows: numpy.ndarray, names: Mapping[str, Name]) -> None:
        self._split, self._table, self._rows, self._names = split, table, rows, names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.some(index, self._names)

    def origin(self, index: int) -> str:
        """The file and the row of a sample."""
        return self._table.where(int(self._rows[index]))

    def some(self, index: int, names: Collection[str]) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self._rows[index])
        wanted = [(name, each) for name, each in self._names.items() if name in names]
        fields = {name: each.fields(row, self._split) for name, each in wanted}
        return {name: each for name, each in fields.items() if each is not None}
