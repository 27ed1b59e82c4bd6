"""Keys as a table of Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from reference.keys import Key

from mmtx.config.overrides import written


def table(keys: Sequence[Key]) -> Iterator[str]:
    yield "| key | default | values | what it is |"
    yield "|---|---|---|---|"
    for key in keys:
        yield f"| `{key.path}` | {_default(key.default)} | {prose(key.kind)} | {prose(key.line)} |"


def prose(text: str) -> str:
    """A line of a docstring or a comment: null and true as in YAML, and no signs of Markdown outside of code."""
    text = re.sub(r"\bNone\b", "null", text.replace("``", "`")).replace("=True", "=true").replace("|", "\\|")
    parts = text.split("`")
    parts[::2] = [re.sub(r"([_*<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _default(value: Any) -> str:
    if value == "???":
        return "to be given"
    if isinstance(value, dict) and "_target_" in value:
        return _code(value["_target_"])
    if isinstance(value, dict) and any(isinstance(child, dict) for child in value.values()):
        return "below"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return ", ".join(map(_default, value))
    if isinstance(value, str) and "${" in value:
        return _code(value)
    return _code(written(value).replace('"', ""))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")
