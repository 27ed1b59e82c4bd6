"""Which columns of a table each name is read from."""

from collections.abc import Collection, Mapping, Sequence

from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.manifest.column_kinds import UNREAD
from mmtx.data.manifest.files import PictureColumn, PictureKeys, SoundColumn
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.numbers import NumberColumns
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.rows import Rows
from mmtx.errors import InvalidValue, UserError, nearest

OF_SEVERAL = ("labels", "numbers", "vector", "series")
"""Kinds that may have several columns."""


def choose_columns(
    given: Mapping[str, str | list[str]], readers: Collection[str], rows: Rows, optional: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The columns of each name.

    Args:
        given: by name, as the config has them.
        readers: names that the set or an objective reads; where they are not given, they are columns of that name.
        rows: of the table.
        optional: names whose columns a file of the table may lack.

    Raises:
        UserError: a file lacks a column, which is named with those that are there; or there is none at all.
    """
    implied = {name: name for name in readers if name not in given and name in rows.columns}
    chosen = {name: (each,) if isinstance(each, str) else tuple(each) for name, each in {**given, **implied}.items()}
    for name, columns in chosen.items():
        if not columns:
            raise InvalidValue(f"columns.{name}", "[]", "is empty: name a column")
        for column in columns:
            if column not in rows.columns:
                problem = f"is not a column of {rows.file(0)}; {nearest(column, rows.columns)}"
                raise InvalidValue(f"columns.{name}", column, problem)
            for table in rows.tables():
                if name not in optional and column not in table.columns:
                    raise UserError(f"{table.file(0)} has no column {column}; {nearest(column, table.columns)}")
    for name in optional:
        if name not in chosen:
            raise InvalidValue("optional", name, f"is no name of the data, which has {', '.join(chosen) or 'none'}")
    if not chosen:
        problem = f"names no columns of {rows.file(0)}, which has {', '.join(rows.columns)}"
        raise InvalidValue("columns", "{}", problem, "'data.columns={name: column}'")
    return chosen


def make_kinds(
    chosen: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
    pictures: PictureKeys,
    sounds: SoundKeys,
    separator: str,
) -> dict[str, Kind]:
    """How each name is read from its columns.

    Raises:
        InvalidValue: a kind takes one column, and has several.
    """
    made: dict[str, Kind] = {}
    for name, kind in kinds.items():
        columns = chosen[name]
        if len(columns) > 1 and kind not in OF_SEVERAL:
            raise InvalidValue(f"columns.{name}", list(columns), f"are several columns, and a {kind} is one")
        if kind in ("picture", UNREAD):
            made[name] = PictureColumn(columns, pictures)
        elif kind == "sound":
            made[name] = SoundColumn(columns, sounds)
        elif kind == "text":
            made[name] = TextColumn(columns)
        elif kind in ("label", "labels"):
            made[name] = ClassColumn(columns, several=kind == "labels", separator=separator)
        else:
            made[name] = NumberColumns(columns, kind)
    return made
