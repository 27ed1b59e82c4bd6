"""What is done with every key of a public file: it is used, it may be there, or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ABSENT: Any = object()
"""The default of a key that a file need not have."""


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        does: "used" or "harmless".
        note: what it is for, or why it changes nothing; for the table in the documentation.
        limit: the values that it may have, in words; empty: any.
        fits: whether it may have a value, given the whole file.
        default: what a file without it means.
    """

    does: str
    note: str
    limit: str = ""
    fits: Callable[[Any, Mapping[str, Any]], bool] = lambda value, content: True
    default: Any = ABSENT


Keys = Mapping[str, Key]


def used(note: str, default: Any = ABSENT) -> Key:
    """mmtx does what the value says; what it cannot do is refused where it is used."""
    return Key("used", note, default=default)


def harmless(note: str) -> Key:
    """No value changes anything that mmtx computes."""
    return Key("harmless", note)


def only(*values: Any, note: str) -> Key:
    """Changes nothing at these values or null, which is also what a file without it means."""
    limit = " or ".join(_spelt(value) for value in values) or "null"
    return Key("harmless", note, limit, lambda value, content: value is None or value in values)


def as_in(other: str, note: str, default: Any = ABSENT) -> Key:
    """Changes nothing where it repeats another key."""
    return Key("harmless", note, f"as `{other}`", lambda value, content: value in (None, content.get(other)), default)


def every(names: str, key: Key) -> dict[str, Key]:
    """The same for several names, separated by spaces."""
    return dict.fromkeys(names.split(), key)


def defaults(keys: Keys) -> dict[str, Any]:
    """What a file without them means, of the keys for which that is known."""
    return {name: key.default for name, key in keys.items() if key.default is not ABSENT}


def refusals(content: Mapping[str, Any], keys: Keys, file: str) -> Iterator[str]:
    """What of a file can be neither used nor left out, one line each."""
    whole = {**defaults(keys), **content}
    for name, value in whole.items():
        key = keys.get(name)
        if key is None:
            yield f"{file}: unknown key {name}={_short(value)}; if it changes nothing, take it out of the file"
        elif not key.fits(value, whole):
            yield f"{file}: {name}={_short(value)} ({key.note}); mmtx can {key.limit.replace('`', '')}"


def table(keys: Keys) -> Iterable[str]:
    """Rows of Markdown; keys of which the same is true share one."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for name, key in keys.items():
        together.setdefault((key.does, key.note, key.limit), []).append(f"`{name}`")
    yield "| key | | what for | refused unless |"
    yield "|---|---|---|---|"
    for (does, note, limit), names in together.items():
        yield f"| {', '.join(names)} | {does} | {note} | {limit} |"


def _short(value: Any, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _spelt(value: Any) -> str:
    known = {None: "null", True: "true", False: "false"}
    return known[value] if value is None or isinstance(value, bool) else f"{value!r}".replace("'", '"')
