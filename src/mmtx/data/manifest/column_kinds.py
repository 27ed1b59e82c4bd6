"""The kind of each column: what reads it decides, else its values."""

from collections.abc import Mapping, Sequence

from mmtx.data.manifest.files import is_file
from mmtx.data.tables.rows import Rows
from mmtx.errors import InvalidValue

_FILES, _TEXTS = ("picture", "sound", "video"), ("text", "continuation", "messages", "before_picture")
KINDS = (*_FILES, *_TEXTS, "label", "labels", "number", "vector", "series")
NUMBERS, CLASSES = "numbers", "classes"
"""Kinds that tokenizers and objectives read besides: numbers of the shape that the table gives them; and one class for
each row or several, as the values are."""
UNREAD = "unread"
"""Of files that neither the set nor an objective reads."""
LOOKED_AT = 100
"""Rows at the beginning of a table whose values are looked at."""


def kinds_of(
    chosen: Mapping[str, Sequence[str]], rows: Rows, given: Mapping[str, str], readers: Mapping[str, str | None]
) -> dict[str, str]:
    """The kind of each name that is read, or whose kind is given. Others are left out, but for those of files: they are
    `UNREAD`, so that rows that share one are in one split, whatever the set reads.

    Args:
        chosen: the columns that each is read from.
        rows: of the table.
        given: kinds by name, as the config has them.
        readers: kinds that tokenizers and objectives read, by name; None: any, as the values are.

    Raises:
        InvalidValue: a given kind is none, or what is there decides none.
    """
    for name in given:
        if name not in chosen and name not in rows.columns:
            raise InvalidValue(f"kinds.{name}", given[name], f"is of no name of the data: {', '.join(chosen)}")
    found = {}
    for name, columns in chosen.items():
        if name in given or name in readers:
            found[name] = _kind(name, columns, rows, given, readers)
        elif _is_file(rows, columns):
            found[name] = UNREAD
    return found


def _is_file(rows: Rows, columns: Sequence[str]) -> bool:
    cell = rows.cells(0, columns)[0]
    if isinstance(cell, str):
        return is_file(rows.file(0).parent / cell.strip())
    return isinstance(cell, bytes | dict)


def _kind(
    name: str, columns: Sequence[str], rows: Rows, given: Mapping[str, str], readers: Mapping[str, str | None]
) -> str:
    known = given.get(name, readers.get(name))
    if known not in (None, *KINDS) and (name in given or known not in (NUMBERS, CLASSES)):
        raise InvalidValue(f"kinds.{name}", known, f"is none of {', '.join(KINDS)}")
    if known == "text" and name not in given:
        return "continuation" if len(columns) == 2 else "messages" if _are_messages(rows, columns) else known
    if known not in (None, CLASSES):
        return known
    values = [cell for row in range(min(len(rows), LOOKED_AT)) for cell in rows.cells(row, columns) if cell is not None]
    kind = _by_values(values, len(columns), known == CLASSES)
    if kind is None:
        kinds = f"data.kinds.{name}=" + "|".join(KINDS)
        raise InvalidValue(f"columns.{name}", ",".join(columns), f"does not show its kind: set {kinds}")
    return kind


def _are_messages(rows: Rows, columns: Sequence[str]) -> bool:
    """Whether the first cell that there is holds a list of objects, which is no text."""
    cells = (rows.cells(row, columns)[0] for row in range(min(len(rows), LOOKED_AT)))
    first = next((cell for cell in cells if cell is not None), None)
    return isinstance(first, list) and bool(first) and isinstance(first[0], dict)


def _by_values(values: Sequence[object], num_columns: int, is_class: bool) -> str | None:
    if any(isinstance(value, bytes | dict) for value in values):
        return None
    if any(isinstance(value, list) for value in values):
        entries = [each for value in values if isinstance(value, list) for each in value]
        return "labels" if is_class or any(isinstance(each, str) for each in entries) else NUMBERS
    if num_columns > 1:
        return "labels" if is_class else NUMBERS
    if is_class or not all(map(_is_number, values)) or all(map(_is_whole, values)):
        return "label"
    return NUMBERS


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) or str(value).strip().lstrip("+-").isdigit()
