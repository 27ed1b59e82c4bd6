"""Cells of tables: texts, and labels of classes."""

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?")
SURROGATE = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """The beginning of a value, as JSON where it can be."""
    return json.dumps(value, default=repr)[:40]


def text_cell(value: object) -> str:
    """A text, unchanged. Raises `ValueError` with a predicate: it is missing, empty, or no text."""
    if value is None or value != value:
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"is {shown(value)}, not a text")
    if not value.strip():
        raise ValueError("is empty")
    if not value.isascii() and SURROGATE.search(value):
        raise ValueError("holds half a character (a lone surrogate)")
    return value


def label_cell(value: object) -> str:
    """The name of a class, without surrounding spaces, in Unicode's normal form C; of whole numbers, their digits.
    Raises `ValueError` with a predicate: it is missing, empty, or neither."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return unicodedata.normalize("NFC", text_cell(value).strip())
    except ValueError as error:
        raise ValueError(str(error).replace("not a text", "neither a text nor a whole number")) from None


def double_spellings(file: Path, column: str, labels: Collection[str]) -> Iterator[str]:
    """Numbers in two spellings, which would be two classes."""
    first: dict[Decimal, str] = {}
    for label in sorted(filter(NUMBER.fullmatch, labels)):
        spelling = first.setdefault(Decimal(label), label)
        if spelling != label:
            yield f"{file}: {column} has {spelling} and {label}, which are one number: write it in one way"
