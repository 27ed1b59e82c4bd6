"""Overrides as Hydra's grammar reads them: the one place where what was typed becomes a value."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from mmtx.errors import ConfigErrors, UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_VALUES = 100_000
"""A sweep has no more values, and no more jobs."""

OF_A_SWEEP = re.compile(r"\+{0,2}(?:hydra[./])?((launcher|sweeper)[=./].*)", re.DOTALL)
"""An override of the launcher or the sweeper, with Hydra's name before it or not."""


def read(text: str) -> Override:
    """One override, as Hydra has it; its `input_line` is its text in the grammar.

    A value outside the grammar that is a file or folder is that path, and several with commas between are those paths:
    folders of jobs are named ``lr=0.003,seed=1-062db5``.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return _parsed(text)
    except UserError as error:
        key, equals, value = text.partition("=")
        if not equals or not _is_read(f"{key}="):
            raise
        paths = _paths(value)
        if paths:
            return _parsed(f"{key}={','.join(map(quoted, paths))}")
        raise UserError(f"{error}; as a text: {shlex.quote(f'{key}={quoted(value)}')}") from None


def read_all(texts: Sequence[str]) -> list[Override]:
    """Raises ConfigErrors with every override that cannot be read."""
    overrides, found = [], []
    for text in texts:
        try:
            overrides.append(read(text))
        except UserError as error:
            found.append(str(error))
    if found:
        raise ConfigErrors(found)
    return overrides


def read_value(key: str, text: str) -> Any:
    """The value of a command's own option.

    Raises:
        UserError: it cannot be read, or is several.
    """
    override = read(f"{key}={text}")
    if override.is_sweep_override():
        raise UserError(f"{key}={text} names several values; give one")
    return override.value()


def read_path(key: str, text: str) -> str | None:
    """A path that need not be there: without the grammar's quotes and backslashes where it is a text of the grammar,
    else as it is written; None for ``null`` and for nothing.

    Raises:
        UserError: it refers to other keys.
    """
    if "${" in text:
        raise UserError(f"{key}={text} refers to other keys with ${{...}}; write the path itself")
    value = read(f"{key}={text}").value() if _is_read(f"{key}={text}") else text
    return None if value in (None, "") else value if isinstance(value, str) else text


def quoted(text: str) -> str:
    """A text as the grammar takes it, whatever is in it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # no reference to another key
    return QuotedString(literal, Quote.single).with_quotes()


def written(value: Any) -> str:
    """A value, a list of values, or a node, as the grammar takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(child)}' for key, child in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    in_list = f"key=[{value}]"
    return value if _is_read(in_list) and _parsed(in_list).value() == [value] and "${" not in value else quoted(value)


def lines(override: Override, options: Callable[[str], Sequence[str]]) -> list[str]:
    """The overrides, of one value each, that an override ranges over.

    Args:
        override: which may range over nothing, and is then the only one.
        options: of a group, for ``glob(...)``.

    Raises:
        UserError: it ranges over no values, too many, or such as cannot be counted.
    """
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.is_interval_sweep():
        raise UserError(f"{override.input_line} is an interval, to be searched: add hydra/sweeper=optuna")
    try:
        values = sweep_values(override, options)
    except ValueError as error:
        raise UserError(f"{override.input_line} {error}") from None
    return [f"{override.get_key_element()}={value}" for value in values]


def sweep_values(override: Override, options: Callable[[str], Sequence[str]]) -> list[str]:
    """The values of `lines`. Raises ValueError with what is wrong with them, as a predicate."""
    sweep: Any = override.value()
    if hasattr(sweep, "include"):  # glob(...)
        known = options(override.key_or_group)
        found: list[str] = sweep.filter(known)
        if not found:
            raise ValueError(f"matches nothing; {nearest(sweep.include[0].strip('*'), known)}")
        return found
    if override.is_range_sweep():
        count = range_length(sweep)
        if not 0 < count <= MOST_VALUES:
            raise ValueError(f"has {count or 'no'} values; a sweep has between 1 and {MOST_VALUES}")
    return list(override.sweep_string_iterator())


def range_length(sweep: Any) -> int:
    """How many values a range has. Raises ValueError where it never ends."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    if not step or not all(map(math.isfinite, (start, stop, step))):
        raise ValueError("never ends: it needs numbers, and a step that is not 0")
    return max(0, math.ceil((stop - start) / step))


def _paths(text: str) -> list[str]:
    """The files and folders that a text names with commas between; none where any of them is not there."""
    words = [] if text == "~" else text.split(",")  # which is YAML's null, and nobody's folder
    for end in range(len(words), 0, -1):  # the longest first: a comma may belong to a name
        first, others = ",".join(words[:end]), _paths(",".join(words[end:])) if end < len(words) else []
        if os.path.exists(os.path.expanduser(first)) and (others or end == len(words)):
            return [first, *others]
    return []


def _is_read(text: str) -> bool:
    try:
        _parsed(text)
    except UserError:
        return False
    return True


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Override:
    """Raises UserError where the grammar refuses it."""
    from hydra.errors import HydraException

    try:
        override = _parser().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:  # numbers that are too long, lists that are too deep
        raise UserError(f"cannot read the override {text!r}: {str(error).splitlines()[0]}") from None
    if not override.key_or_group:
        raise UserError(f"cannot read the override {text!r}: it names no key")
    if any(_is_sweep(part) for part in _parts(override.value())):
        whole = "a range, choice, interval or glob is a value of its own, not a part of one"
        raise UserError(f"cannot read the override {text!r}: {whole}")
    if isinstance(override.value(), list) and "shuffle(" in text:
        override.input_line = f"{override.get_key_element()}={override.get_value_element_as_str()}"  # drawn once
    return override


@cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _parts(value: Any) -> Iterator[Any]:
    """Everything within a value, itself excluded."""
    inner = value.list if hasattr(value, "simple_form") else value
    for part in inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ():
        yield part
        yield from _parts(part)


def _is_sweep(value: Any) -> bool:
    from hydra.core.override_parser.types import Glob, Sweep

    return isinstance(value, Sweep | Glob)
