"""Rows of tars, as WebDataset lays them out: the files of one sample have one name, and a suffix for each column."""

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy

from mmtx.data.tables.rows import Block, Cells, Rows, Unreadable
from mmtx.data.tables.tar_index import index_tar
from mmtx.errors import UserError

BLOCK = 1024
"""Samples that are shuffled together with others of a shard."""
TEXTS = ("txt", "text", "transcript", "cls", "cls2", "index", "inx", "id")
"""Suffixes of members that are text; one line end at the end is not part of it."""


class TarRows(Rows):
    """A tar. Its columns are the suffixes of its members, and ``json.KEY`` for each key of a member ``json``; a key
    that is no suffix goes by its name alone, too.

    Texts and JSON are decoded, ``npy`` are arrays, and everything else stays bytes.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._index = file, index_tar(file)
        sizes = self._index.sizes.sum(1)
        starts = range(0, len(self._index), BLOCK)
        self.blocks = [Block(min(BLOCK, len(sizes) - i), int(sizes[i : i + BLOCK].sum())) for i in starts]
        self._kinds = {kind: number for number, kind in enumerate(self._index.kinds)}
        keys = self._keys()
        self.columns = (*self._index.kinds, *(f"json.{key}" for key in keys))
        self._short = {key: f"json.{key}" for key in keys if key not in self._kinds}
        self.columns += tuple(self._short)

    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        with self._open() as stream:
            for row in range(len(self._index)):
                yield self._cells(stream, row, columns)

    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        with self._open() as stream:  # not held: of thousands of shards, each would be an open file
            return self._cells(stream, row, columns)

    def _open(self) -> io.FileIO:
        try:
            return io.FileIO(self._file)
        except OSError as error:
            raise UserError(f"{self._file} cannot be read: {error.strerror}") from None

    def _cells(self, stream: io.FileIO, row: int, columns: Sequence[str]) -> Cells:
        members: dict[str, object] = {}
        found = []
        for column in columns:
            column = self._short.get(column, column)
            kind, _, key = (column, "", "") if column in self._kinds else column.partition(".")
            if kind not in members:
                members[kind] = self._member(stream, row, kind)
            value = members[kind]
            found.append(value.get(key) if key and isinstance(value, dict) else value)
        return tuple(found)

    def file(self, row: int) -> Path:
        return self._file

    def where(self, row: int) -> str:
        return f"{self._file}, sample {self._index.key(row)}"

    def _member(self, stream: io.FileIO, row: int, kind: str) -> object:
        number = self._kinds.get(kind)
        if number is None or self._index.offsets[row, number] < 0:
            return None
        size, offset = int(self._index.sizes[row, number]), int(self._index.offsets[row, number])
        data = os.pread(stream.fileno(), size, offset)
        ending = kind.rpartition(".")[2]
        try:
            if ending in TEXTS:
                return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
            if ending == "json":
                return json.loads(data)
            if ending == "npy":
                return numpy.load(io.BytesIO(data), allow_pickle=False).tolist()
        except (ValueError, EOFError) as error:
            return Unreadable(f"cannot be read: {error}")
        return data

    def _keys(self) -> list[str]:
        """Of the first sample's JSON."""
        with self._open() as stream:
            first = self._member(stream, 0, "json")
        return list(first) if isinstance(first, dict) else []
