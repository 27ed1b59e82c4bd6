"""One pass over all rows of a table: everything that is wrong with them, and what is kept of each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from mmtx.data.files.cells import double_spellings
from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.manifest.file_groups import FileGroups
from mmtx.data.manifest.files import FileColumn, located, only_file
from mmtx.data.manifest.kind import Kind, is_missing
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.numbers import NumberColumns
from mmtx.data.manifest.splits import split_code
from mmtx.data.tables.rows import Cells, Rows
from mmtx.errors import UserError, refuse_together, some
from mmtx.process.stopping import track

MOST_PROBLEMS = 1000
"""After which the rest of a table is not looked at."""


@dataclass(frozen=True)
class Scan:
    """What is kept of all rows.

    Attributes:
        lists: of names of classes, codes by `found`; of names of numbers, all of a row.
        facts: of the same names: the classes that were found, or the width of a step and whether cells are nested.
        splits: of each row, by the column of splits; None where there is none.
        groups: of each row: rows of one group hold the same file; None where no name is of files.
    """

    lists: Mapping[str, Lists]
    facts: Mapping[str, list[object]]
    splits: numpy.ndarray | None
    groups: numpy.ndarray | None

    @classmethod
    def read(cls, folder: Path) -> Scan:
        """What `scan` wrote to a folder."""
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        arrays = {
            name: numpy.load(folder / f"{name}.npy") if (folder / f"{name}.npy").is_file() else None
            for name in ("splits", "groups")
        }
        return cls({name: Lists.read(folder, name) for name in facts}, facts, **arrays)


def scan(
    folder: Path | None,
    rows: Rows,
    kinds: Mapping[str, Kind],
    optional: Sequence[str],
    split: str | None,
    reads: bool,
    between: Callable[[Scan], Iterable[str]],
) -> Scan:
    """Looks at every row.

    Args:
        folder: to which what is kept is written; None: memory.
        rows: of the table.
        kinds: of each name.
        optional: names that a row may lack.
        split: the column of splits; None: there is none.
        reads: files that lie in the table are looked at, too.
        between: what is wrong between rows, which is named beside what is wrong with one.

    Raises:
        UserError: cells cannot be read, all of them together.
    """
    work = _Work(folder, rows, kinds, set(optional), split, reads)
    for row, cells in enumerate(track(rows.scan(work.columns), "reading rows", len(rows))):
        work.take(row, dict(zip(work.columns, cells, strict=True)))
        if len(work.problems) >= MOST_PROBLEMS:
            break
    work.finish_problems()
    found, problems = work.close(), [*rows.problems(), *work.problems]
    if problems:
        refuse_together(
            [*problems, *(between(found) if work.is_whole else ())], some(str(table.file(0)) for table in rows.tables())
        )
    return found


class _Work:
    """A scan that is going on."""

    def __init__(
        self,
        folder: Path | None,
        rows: Rows,
        kinds: Mapping[str, Kind],
        optional: set[str],
        split: str | None,
        reads: bool,
    ) -> None:
        self.folder, self.rows, self.optional, self.split = folder, rows, optional, split
        self.kinds = {name: kind for name, kind in kinds.items() if reads or not _holds_bytes(rows, kind)}
        wanted = [column for kind in self.kinds.values() for column in kind.columns]
        self.columns = tuple(dict.fromkeys([*wanted, *([split] if split else [])]))
        types: dict[type, Any] = {ClassColumn: numpy.int32, NumberColumns: numpy.float32}
        self.writers = {
            name: ListWriter(folder, name, types[type(kind)]) for name, kind in kinds.items() if type(kind) in types
        }
        self.widths: dict[str, int] = {}
        self.splits, self.problems = array("b"), list[str]()
        files = [name for name, kind in self.kinds.items() if isinstance(kind, FileColumn)]
        self.groups = FileGroups(files, len(rows), reads)

    def take(self, row: int, cells: Mapping[str, object]) -> None:
        """Reads one row; what is wrong with it is kept."""
        for name, kind in self.kinds.items():
            own = tuple(cells[column] for column in kind.columns)
            try:
                if name in self.optional and is_missing(own):
                    self._absent(name)
                else:
                    self._read(name, kind, row, own)
            except ValueError as error:
                self.problems.append(located(self.rows.where(row), str(error)))
                self._absent(name)
        if self.split:
            try:
                self.splits.append(split_code(cells[self.split]))
            except ValueError as error:
                self.problems.append(f"{self.rows.where(row)}: {self.split} {error}")

    def _absent(self, name: str) -> None:
        if name in self.writers:
            self.writers[name].append(())

    def _read(self, name: str, kind: Kind, row: int, cells: Cells) -> None:
        if isinstance(kind, ClassColumn):
            self.writers[name].append(kind.codes(cells))
        elif isinstance(kind, NumberColumns):
            values = kind.values(cells)
            width = self.widths.setdefault(name, values.shape[1])
            if values.shape[1] != width:
                raise ValueError(
                    f"{kind.columns[0]} has {values.shape[1]} numbers a step, and rows before have {width}"
                )
            self.writers[name].append(values.reshape(-1))
        elif isinstance(kind, FileColumn):
            file = kind.content(self.rows, row, cells[0])
            if self.groups.add(name, row, file):
                try:
                    kind.check(file)
                except UserError as error:
                    raise ValueError(kind.problem(file, error)) from None
        else:
            kind.read(cells)

    @property
    def is_whole(self) -> bool:
        """Whether all rows were looked at, and have a split."""
        lists = [len(writer) for writer in self.writers.values()] + [len(self.splits)] * bool(self.split)
        return all(length == len(self.rows) for length in lists)

    def finish_problems(self) -> None:
        """Those that only all rows together show."""
        for kind in self.kinds.values():
            if isinstance(kind, ClassColumn) and len(kind.columns) == 1 and not self.problems:
                self.problems += double_spellings(self.rows.file(0), kind.columns[0], kind.found)

    def close(self) -> Scan:
        facts: dict[str, list[object]] = {}
        for name, kind in self.kinds.items():
            if isinstance(kind, ClassColumn):
                facts[name] = list(kind.found)
            elif isinstance(kind, NumberColumns):
                facts[name] = [self.widths.get(name, 1), kind.nested]
        lists = {name: writer.close() for name, writer in self.writers.items()}
        splits = numpy.array(self.splits, numpy.int8) if self.split else None
        groups = self.groups.of_rows()
        if self.folder is not None:
            (self.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
            for name, values in (("splits", splits), ("groups", groups)):
                if values is not None:
                    numpy.save(self.folder / f"{name}.npy", values)
        return Scan(lists, facts, splits, groups)


def _holds_bytes(rows: Rows, kind: Kind) -> bool:
    """Whether files lie in the table itself."""
    if not isinstance(kind, FileColumn) or not len(rows):
        return False
    cell = only_file(rows.cells(0, kind.columns)[0])
    return isinstance(cell.get("bytes") if isinstance(cell, dict) else cell, bytes)
