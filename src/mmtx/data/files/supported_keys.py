"""Tables of the keys that a public config file may have: used, harmless, or refused at some values."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.errors import UserError

ABSENT: Any = object()
"""The default of a key that has none."""


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        status: "used" or "harmless".
        note: what it is for, or why it changes nothing; for the table in the documentation.
        limit: the values that it may have, in words; empty: any.
        fits: whether it may have a value, given the whole file.
        default: the value of a file without it.
    """

    status: str
    note: str
    limit: str = ""
    fits: Callable[[Any, Mapping[str, Any]], bool] = lambda value, content: True
    default: Any = ABSENT


Keys = Mapping[str, Key]


def used(note: str, default: Any = ABSENT) -> Key:
    """A key that mmtx follows; values that it cannot follow are refused where they are used."""
    return Key("used", note, default=default)


def harmless(note: str) -> Key:
    """A key of which no value changes what mmtx computes."""
    return Key("harmless", note)


def only(*values: Any, note: str) -> Key:
    """A key that changes nothing at these values or null, also the meaning of a file without it."""
    limit = " or ".join(_spelling(value) for value in values) or "null"
    return Key("harmless", note, limit, lambda value, content: value is None or value in values)


def as_in(other: str, note: str, default: Any = ABSENT) -> Key:
    """A key that changes nothing where it repeats another."""
    return Key("harmless", note, f"as `{other}`", lambda value, content: value in (None, content.get(other)), default)


def every(names: str, key: Key) -> dict[str, Key]:
    """One entry for several names, separated by spaces."""
    return dict.fromkeys(names.split(), key)


def defaults(keys: Keys) -> dict[str, Any]:
    """The values of a file without these keys, of those that have a default."""
    return {name: key.default for name, key in keys.items() if key.default is not ABSENT}


def refusals(content: Mapping[str, Any], keys: Keys, file: str) -> Iterator[str]:
    """The keys of a file that can be neither used nor ignored, one line each."""
    whole = {**defaults(keys), **content}
    for name, value in whole.items():
        key = keys.get(name)
        if key is None:
            yield f"{file}: unknown key {name}={_short(value)}; if it changes nothing, take it out of the file"
        elif not key.fits(value, whole):
            yield f"{file}: {name}={_short(value)} ({key.note}); mmtx can {key.limit.replace('`', '')}"


def refuse(found: Sequence[str], whose: str) -> None:
    """Raises `UserError` with all `refusals`, if there are any, of the files of a model."""
    if found:
        raise UserError("\n".join([f"{whose} has what mmtx cannot follow:", *(f"  - {line}" for line in found)]))


def table(keys: Keys) -> Iterable[str]:
    """Rows of a Markdown table; keys with the same entry share one."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for name, key in keys.items():
        together.setdefault((key.status, key.note, key.limit), []).append(f"`{name}`")
    yield "| key | | what for | refused unless |"
    yield "|---|---|---|---|"
    for (status, note, limit), names in together.items():
        yield f"| {', '.join(names)} | {status} | {note} | {limit} |"


def _short(value: Any, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _spelling(value: Any) -> str:
    names = {None: "null", True: "true", False: "false"}
    return names[value] if value is None or isinstance(value, bool) else f"{value!r}".replace("'", '"')
