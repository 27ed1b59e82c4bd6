"""Rows of Parquet files, a row group at a time."""

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmtx.data.tables.arrow import batch_rows, class_names, reading
from mmtx.data.tables.rows import Block, Cells, Rows

SCANNED = 4096
"""Rows that are decoded at a time where all are read."""


class GroupCache:
    """Row groups that were read last, of all files of a table; those of other columns are others.

    Args:
        limit: bytes that it holds; a group that is larger is held alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._groups = limit, OrderedDict[tuple[object, ...], Any]()

    def get(self, key: tuple[object, ...], read: Callable[[], Any]) -> Any:
        """A group, which is read if it is not there."""
        if key not in self._groups:
            self._groups[key] = read()
            while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > self._limit:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


class ParquetRows(Rows):
    """A Parquet file. Its columns of classes are named where `datasets` wrote it."""

    def __init__(self, file: Path, cache: GroupCache) -> None:
        self._file, self._cache = file, cache
        with reading(file) as arrow:
            self._metadata = arrow.parquet.read_metadata(file)
            schema = self._metadata.schema.to_arrow_schema()
        groups = [self._metadata.row_group(i) for i in range(self._metadata.num_row_groups)]
        self.blocks = [Block(group.num_rows, group.total_byte_size) for group in groups]
        self.columns = tuple(schema.names)
        self._starts = [0, *accumulate(block.rows for block in self.blocks)]
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        self._names = class_names(stored.get("info", {}).get("features") or {})

    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        with self._open() as parquet:
            for batch in parquet.iter_batches(SCANNED, columns=self._present(columns), use_threads=False):
                yield from batch_rows(batch, columns, self._names)

    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        group = bisect_right(self._starts, row) - 1
        table = self._cache.get((self._file, group, *columns), lambda: self._read(group, columns))
        return next(batch_rows(table.slice(row - self._starts[group], 1), columns, self._names))

    def file(self, row: int) -> Path:
        return self._file

    def where(self, row: int) -> str:
        return f"{self._file}, row {row + 1}"

    def _read(self, group: int, columns: Sequence[str]) -> Any:
        with self._open() as parquet:
            return parquet.read_row_group(group, columns=self._present(columns), use_threads=False)

    def _present(self, columns: Sequence[str]) -> list[str]:
        return [column for column in columns if column in self.columns]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The file, which is not held: of thousands, each would be an open file."""
        with reading(self._file) as arrow, arrow.parquet.ParquetFile(self._file, metadata=self._metadata) as parquet:
            yield parquet
