"""Which columns of a table each name is read from."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.manifest.column_kinds import UNREAD
from mmtx.data.manifest.continuations import ContinuationColumns
from mmtx.data.manifest.conversations import BeforePictureColumn, MessagesColumn
from mmtx.data.manifest.files import PictureColumn, PictureKeys, SoundColumn, VideoColumn
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.numbers import NumberColumns
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.rows import Rows
from mmtx.errors import InvalidValue, UserError, nearest

OF_SEVERAL = ("continuation", "labels", "numbers", "vector", "series")
"""Kinds that may have several columns."""


@dataclass(frozen=True)
class ColumnKeys:
    """Which columns each name is read from, and as what.

    Args:
        columns: by name, one or several; of other names that are read, the column of that name.
        kinds: by name, where they are given.
        readers: kinds that tokenizers and objectives read, by name; None: any, as the values are.
        optional: names that a row may lack.
        separator: between the classes of a text that holds several.
        fewest_classes: of a name that has one for each row.
        key: of the config, that gives the column of the name {}; None: there is none.
    """

    columns: Mapping[str, str | Sequence[str]]
    kinds: Mapping[str, str]
    readers: Mapping[str, str | None]
    optional: Sequence[str] = ()
    separator: str = ";"
    fewest_classes: int = 2
    key: str | None = "columns.{}"

    def without(self, names: Callable[[str], bool], there: Collection[str]) -> "ColumnKeys":
        """The same for a table with columns `there`, which may lack some names, in all rows or in some."""
        own = {name: [each] if isinstance(each, str) else each for name, each in self.columns.items()}
        own |= {name: [name] for name in self.readers if name not in own}
        gone = {name for name, columns in own.items() if names(name) and not set(columns) <= set(there)}
        optional = dict.fromkeys([*self.optional, *filter(names, own)])
        return replace(
            self,
            columns={name: each for name, each in self.columns.items() if name not in gone},
            kinds={name: each for name, each in self.kinds.items() if name not in gone},
            readers={name: each for name, each in self.readers.items() if name not in gone},
            optional=[name for name in optional if name not in gone],
        )


def choose_columns(keys: ColumnKeys, rows: Rows, train: Rows) -> dict[str, tuple[str, ...]]:
    """The columns of each name.

    Args:
        keys: of the config.
        rows: of the table.
        train: those of training, whose columns are those of names that have no other.

    Raises:
        UserError: a file lacks a column, which is named with those that are there; or there is none at all.
    """
    implied = {name: name for name in keys.readers if name not in keys.columns and name in train.columns}
    given = {**keys.columns, **implied}
    chosen = {name: (each,) if isinstance(each, str) else tuple(each) for name, each in given.items()}
    for name, columns in chosen.items():
        if not columns:
            raise InvalidValue(f"columns.{name}", "[]", "is empty: name a column")
        for column in columns:
            _check_column(name, column, keys, rows)
    for name in keys.optional:
        if name not in chosen:
            raise InvalidValue("optional", name, f"is no name of the data, which has {', '.join(chosen) or 'none'}")
    if not chosen:
        problem = f"names no columns of {rows.file(0)}, which has {', '.join(rows.columns)}"
        raise InvalidValue("columns", "{}", problem, "'data.columns={name: column}'")
    return chosen


def _check_column(name: str, column: str, keys: ColumnKeys, rows: Rows) -> None:
    if keys.key is not None and column not in rows.columns:
        problem = f"is not a column of {rows.file(0)}; {nearest(column, rows.columns)}"
        raise InvalidValue(keys.key.format(name), column, problem)
    for table in rows.tables():
        if name not in keys.optional and column not in table.columns:
            raise UserError(f"{table.file(0)} has no column {column}; {nearest(column, table.columns)}")


def make_kinds(
    chosen: Mapping[str, Sequence[str]],
    kinds: Mapping[str, str],
    pictures: PictureKeys | None,
    sounds: SoundKeys | None,
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
            assert pictures is not None
            made[name] = PictureColumn(columns, pictures)
        elif kind == "video":
            assert pictures is not None
            made[name] = VideoColumn(columns, pictures)
        elif kind == "sound":
            assert sounds is not None
            made[name] = SoundColumn(columns, sounds)
        elif kind == "continuation":
            if len(columns) > 2:
                problem = "must be two columns, a prompt and what continues it, or one without a prompt"
                raise InvalidValue(f"columns.{name}", list(columns), problem)
            made[name] = ContinuationColumns(columns)
        elif kind == "text":
            made[name] = TextColumn(columns)
        elif kind == "messages":
            made[name] = MessagesColumn(columns)
        elif kind == "before_picture":
            made[name] = BeforePictureColumn(columns)
        elif kind in ("label", "labels"):
            made[name] = ClassColumn(columns, several=kind == "labels", separator=separator)
        else:
            made[name] = NumberColumns(columns, kind)
    return made
