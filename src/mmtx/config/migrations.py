"""What earlier versions stored, as this one would have stored it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmtx.errors import UserError

FORMAT = 3
"""Of stored configs and checkpoints."""
FIRST = 2
"""Of configs that hold no number, and the oldest that is read."""

IN_FILES = re.compile(r"mmtx\.(data|modalities|nn|objectives|run|sweep|training)\.(?:[a-z0-9_]+\.)+([A-Z]\w*)")
"""Classes by the files that they were in."""


def migrated_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A stored config, without its number.

    Args:
        config: of any format, or of a part of a config.
        where: it was stored.

    Raises:
        UserError: a newer version has stored it, or none.
    """
    rest = {key: value for key, value in config.items() if key != "format"}
    return _migrated(rest, config.get("format", FIRST), where)


def migrated_checkpoint(contents: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What `mmtx.run.loading.described` has put in a checkpoint.

    Raises:
        UserError: a newer version has stored it, or none.
    """
    states = ("config", "specs", "learnt")
    stored = {key: contents[key] for key in states if key in contents}
    return {**contents, **_migrated(stored, contents.get("format"), where), "format": FORMAT}


def _migrated(stored: dict[str, Any], written: Any, where: str) -> dict[str, Any]:
    if type(written) is not int or not FIRST <= written <= FORMAT:
        raise UserError(f"{where} has format {written}; this version of mmtx reads {FIRST} to {FORMAT}")
    for step in range(written, FORMAT):
        stored = STEPS[step](stored)
    return stored


def _by_public_names(stored: dict[str, Any]) -> dict[str, Any]:
    """Classes by their rooms, and no longer by files: ``mmtx.data.digits.Digits`` -> ``mmtx.data.Digits``."""

    def renamed(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {inner: renamed(inner, content) for inner, content in value.items()}
        if isinstance(value, list):
            return [renamed("", content) for content in value]
        if key in ("_target_", "kind") and isinstance(value, str):
            return "mmtx.Clock" if value == "mmtx.tokens.Clock" else IN_FILES.sub(r"mmtx.\1.\2", value)
        return value

    return {key: renamed(key, value) for key, value in stored.items()}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _by_public_names}
"""What makes each format the next one."""
