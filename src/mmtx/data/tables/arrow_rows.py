"""Rows of Arrow files, as `datasets` saves them to disk, mapped into memory."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmtx.data.tables.arrow import batch_rows, class_names, reading
from mmtx.data.tables.rows import Block, Cells, JoinedRows, Rows
from mmtx.errors import UserError

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
"""What `datasets` writes beside the files of one split, and of all."""


class ArrowRows(Rows):
    """An Arrow file, a stream or with a footer.

    Args:
        file: its path.
        names: of the classes of columns that hold their numbers.
    """

    def __init__(self, file: Path, names: Mapping[str, Sequence[str]]) -> None:
        self._file, self._names = file, names
        with reading(file) as arrow:
            source = arrow.memory_map(str(file))
            try:
                self._batches = list(arrow.ipc.open_stream(source))
            except arrow.ArrowInvalid:
                opened = arrow.ipc.open_file(source)
                self._batches = [opened.get_batch(i) for i in range(opened.num_record_batches)]
            self.columns = tuple(self._batches[0].schema.names) if self._batches else ()
        self.blocks = [Block(batch.num_rows, batch.nbytes) for batch in self._batches]
        self._starts = [0, *accumulate(block.rows for block in self.blocks)]

    def scan(self, columns: Sequence[str]) -> Iterator[Cells]:
        for batch in self._batches:
            yield from batch_rows(batch, columns, self._names)

    def cells(self, row: int, columns: Sequence[str]) -> Cells:
        number = bisect_right(self._starts, row) - 1
        own = row - self._starts[number]
        return next(batch_rows(self._batches[number].slice(own, 1), columns, self._names))

    def file(self, row: int) -> Path:
        return self._file

    def where(self, row: int) -> str:
        return f"{self._file}, row {row + 1}"


def dataset_splits(folder: Path) -> dict[str, Rows] | None:
    """The splits of a folder that `datasets` saved, by their names there, a single one under ""; None: it is none.

    Raises:
        UserError: a file is missing or damaged, or rows are chosen by indices.
    """
    if (folder / SPLITS).is_file():
        return {split: _split(folder / split) for split in _json(folder / SPLITS).get("splits", [])}
    return {"": _split(folder)} if (folder / STATE).is_file() else None


def _split(folder: Path) -> Rows:
    state, info = _json(folder / STATE), _json(folder / INFO) if (folder / INFO).is_file() else {}
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise UserError(f"{folder} holds chosen rows of a larger table: save dataset.flatten_indices() instead")
    files = [folder / str(entry["filename"]) for entry in state.get("_data_files", [])]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise UserError(f"{folder / STATE} lists {', '.join(missing) or 'no files'}, which are not there")
    names = class_names(info.get("features") or {})
    return JoinedRows([ArrowRows(file, names) for file in files])


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no object, and is not what datasets writes")
    return content
