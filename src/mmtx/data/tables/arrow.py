"""pyarrow, which reads Parquet and Arrow: an extra, imported where it is needed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from mmtx.data.tables.rows import Cells
from mmtx.errors import UserError


def import_arrow(path: Path) -> ModuleType:
    """pyarrow. Raises `UserError` where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path} is read by pyarrow, which is not installed: pip install 'mmtx[data]'") from None
    return pyarrow


@contextmanager
def reading(file: Path) -> Iterator[ModuleType]:
    """Errors of pyarrow become `UserError`."""
    arrow = import_arrow(file)
    try:
        yield arrow
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Names of the classes of columns that hold their numbers, from the features that `datasets` writes beside them."""
    inner = {
        column: feature.get("feature", feature) for column, feature in features.items() if isinstance(feature, dict)
    }
    return {column: one["names"] for column, one in inner.items() if isinstance(one, dict) and one.get("names")}


def batch_rows(batch: Any, columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> Iterator[Cells]:
    """The rows of a batch of pyarrow; None in columns that it lacks. `names` are those of classes, -1 is none."""
    has = set(batch.schema.names)
    values = [batch.column(column).to_pylist() if column in has else [None] * batch.num_rows for column in columns]
    for place, column in enumerate(columns):
        if column in names:
            values[place] = [_name(cell, names[column]) for cell in values[place]]
    return zip(*values, strict=True)


def _name(cell: object, names: Sequence[str]) -> object:
    if isinstance(cell, list):
        return [_name(each, names) for each in cell]
    if not isinstance(cell, int):
        return cell
    return names[cell] if 0 <= cell < len(names) else None
