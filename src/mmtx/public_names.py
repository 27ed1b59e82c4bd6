"""Public names of classes, for configs and users: ``mmtx.data.Digits``, whichever file of the room it is in."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

CLASS = re.compile(r"^class ([A-Z]\w*)", re.MULTILINE)
OWN = re.compile(r"(mmtx\.\w+)\..*\.(\w+)")
"""The full name of a class in a file of a room."""


def of_room(room: str, folders: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a room's package, which import a class's file when it is first used.

    No list is kept, so that a new file in a room needs no edit elsewhere.

    Args:
        room: the package, ``mmtx.data``.
        folders: its `__path__`.
    """

    def find(name: str) -> Any:
        home = classes_of(folders[0]).get(name) if name[:1].isupper() else None
        if home is None:
            raise AttributeError(f"module '{room}' has no attribute '{name}'", name=name)
        return getattr(import_module(f"{room}.{home}"), name)

    return find, lambda: sorted(classes_of(folders[0]))


@cache
def classes_of(folder: str) -> dict[str, str]:
    """The classes of a room by name, with their modules within the room."""
    found = {}
    for file in sorted(Path(folder).rglob("*.py")):
        module = ".".join(file.relative_to(folder).with_suffix("").parts)
        found.update(dict.fromkeys(CLASS.findall(file.read_text(encoding="utf-8")), module))
    return found


def public_name(kind: type) -> str:
    """The name of a class in configs: of mmtx, the room and the class; of others, its full name."""
    return OWN.sub(r"\1.\2", f"{kind.__module__}.{kind.__qualname__}")
