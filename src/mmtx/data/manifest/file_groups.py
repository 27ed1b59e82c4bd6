"""Rows that hold the same file, under whatever names: none may be in two splits."""

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy

from mmtx.data.files.duplicates import first_copies
from mmtx.data.files.file_bytes import FileBytes
from mmtx.data.manifest.kind import FileContent


class FileGroups:
    """Collects the files of all rows.

    Args:
        names: of files.
        num_rows: of the table.
        compares: files are compared by their content; else paths by their spelling, and bytes not at all.
    """

    def __init__(self, names: Sequence[str], num_rows: int, compares: bool) -> None:
        self._keys = {name: array("q", [-1]) * num_rows for name in names}
        self._seen: set[int] = set()
        self._paths: dict[Path, int] = {}
        self._compares = compares

    def add(self, name: str, row: int, file: FileContent) -> bool:
        """Takes the file of a row; whether it has not been there before."""
        content = file.data if isinstance(file, FileBytes) else str(file).encode("utf-8", "surrogateescape")
        key = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1
        self._keys[name][row] = key
        if self._compares and isinstance(file, Path):
            self._paths[file] = key
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def of_rows(self) -> numpy.ndarray | None:
        """A number for each row, the same for rows that share a file, of any name; None where there are no files."""
        if not self._keys:
            return None
        same = {self._paths[path]: self._paths[first] for path, first in first_copies(self._paths).items()}
        columns = [numpy.array([same.get(key, key) for key in keys], numpy.int64) for keys in self._keys.values()]
        return _connected(columns)


def _connected(columns: Sequence[numpy.ndarray]) -> numpy.ndarray:
    """The first row of those that each is connected with, by a key that both have in a column, or by rows between them.
    -1 is no key."""
    groups = numpy.arange(len(columns[0]))
    before = None
    while before is None or (groups != before).any():
        before = groups.copy()
        for keys in columns:
            has = numpy.flatnonzero(keys >= 0)
            distinct, inverse = numpy.unique(keys[has], return_inverse=True)
            least = numpy.full(len(distinct), len(groups))
            numpy.minimum.at(least, inverse, groups[has])
            groups[has] = least[inverse]
    return groups
