"""Rows written as CSV, JSON lines or Parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from mmtx.errors import InvalidValue, UserError
from mmtx.interop.atomic_output import atomic_file

Rows = Iterable[Mapping[str, Any]]
Columns = Mapping[str, Any]
"""``{column: type}``: str, int, float, or lists of these."""

ROWS_OF_A_GROUP = 8192
"""Of Parquet: what a reader holds at once."""


def check_table(file: Path) -> None:
    """Raises UserError if a table cannot be written to a file of this name, or one is there."""
    if file.suffix.lower() not in WRITERS:
        raise InvalidValue("out", file, f"must end with one of {' '.join(WRITERS)}: it is a table")
    if file.exists():
        raise InvalidValue("out", file, "is there already; remove it, or name another file")
    if file.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(file: Path, columns: Columns, rows: Rows) -> None:
    """Writes a table by the suffix of its name; it appears once it is whole. A value that a row lacks is null.

    CSV leaves it empty there, and holds lists as JSON.
    """
    with atomic_file(file) as partial:
        WRITERS[file.suffix.lower()](partial, columns, rows)


def _write_csv(file: Path, columns: Columns, rows: Rows) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (row.get(column) for column in columns)
            writer.writerow(json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for v in values)


def _write_jsonl(file: Path, columns: Columns, rows: Rows) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps({column: row.get(column) for column in columns}, ensure_ascii=False) + "\n")


def _write_parquet(file: Path, columns: Columns, rows: Rows) -> None:
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(column, _arrow_type(arrow, kind)) for column, kind in columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        left = iter(rows)
        while group := list(islice(left, ROWS_OF_A_GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _arrow_type(arrow: Any, kind: Any) -> Any:
    if inner := get_args(kind):
        return arrow.list_(_arrow_type(arrow, inner[0]))
    return {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}[kind]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("Parquet needs pyarrow, which is not installed: pip install 'mmtx[data]'") from None
    return pyarrow, parquet


WRITERS: dict[str, Callable[[Path, Columns, Rows], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
