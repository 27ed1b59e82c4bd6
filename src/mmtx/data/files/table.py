"""Tables of samples: CSV or TSV with a header, or a JSON object on each line."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmtx.data.text.text_file import read_text
from mmtx.errors import InvalidValue, UserError, some

KINDS = (".csv", ".tsv", ".jsonl")
MISSING_VALUES = ("nan", "NaN", "<NA>")
"""Spellings of a missing value in CSV and TSV, where fields have no types."""


def found_rows(key: str, path: str) -> tuple[Path, list[tuple[str, dict[str, object] | str]]]:
    """The file, and what its rows or lines hold.

    It is a ``.csv`` or ``.tsv`` file with a header (in the latter quotes have no meaning), or a ``.jsonl`` file, in
    UTF-8, with or without a byte-order mark. A row with more or fewer fields than the header, and a repeated header,
    are problems.

    Args:
        key: of the config, that gives the path.
        path: of the file.

    Raises:
        UserError: it is no such file, or has a column twice.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in KINDS:
        raise InvalidValue(key, path, f"must end with one of {' '.join(KINDS)}: it is a table")
    if not file.is_file():
        raise InvalidValue(key, path, "is not a file")
    content = read_text(file)
    if "\0" in content:
        raise UserError(f"{file} holds a byte of 0, which no text has, at character {content.index(chr(0))}; mend it")
    return file, list(_objects(content) if file.suffix.lower() == ".jsonl" else _fields(file, content))


Found = Iterator[tuple[str, dict[str, object] | str]]
"""Row or line of each entry, and its values, or what is wrong with it, as a predicate."""


def _fields(file: Path, content: str) -> Found:
    tabs = file.suffix.lower() == ".tsv"
    style = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": ","}
    reader = csv.reader(io.StringIO(content, newline=""), strict=True, **style)
    header: list[str] = []
    number = 0
    with _long_fields(len(content)):
        try:
            for number, values in enumerate(filter(None, reader), start=1):  # without empty lines
                if number == 1:
                    header = [name.strip() for name in values]
                    _check_once(file, [name for name in header if name])
                elif [name.strip() for name in values] == header:
                    yield f"row {number}", "is the header once more: join tables without it"
                elif len(values) == len(header):
                    given = (None if value.strip() in MISSING_VALUES else value for value in values)
                    yield f"row {number}", dict(zip(header, given, strict=True))
                else:
                    hint = "" if tabs else "; text with commas goes in quotes"
                    yield f"row {number}", f"has {len(values)} fields, and the header {len(header)}{hint}"
        except csv.Error as error:
            problem = f"(up to line {reader.line_num}) is not {file.suffix[1:].upper()}, nor is what follows: {error}"
            yield f"row {number + 1}", problem


@contextmanager
def _long_fields(length: int) -> Iterator[None]:
    """Lifts the limit of a field, 131,072 characters, which the csv module has for the whole process."""
    before = csv.field_size_limit(min(length + 1, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _check_once(file: Path, header: Sequence[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{file} has a column twice: {some(twice)}")


def _objects(content: str) -> Found:
    for number, line in enumerate(content.split("\n"), start=1):  # a string may hold other line ends
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"is not JSON: {error}"
            continue
        sample = 'is not an object, as {"text": "well done", "label": "good"} is'
        yield f"line {number}", values if isinstance(values, dict) else sample


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = {name.strip(): value for name, value in pairs}
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return values
