"""What lies in a folder, but for what systems and their programs leave there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmtx.errors import UserError, some

LEFT_BEHIND = (
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "__MACOSX", "@eaDir", "lost+found"),
    *("$RECYCLE.BIN", "System Volume Information"),
)


@dataclass(frozen=True)
class Inside:
    """What lies in a folder, in the order of its names, links followed; neither hidden nor left behind by a system.

    Attributes:
        files: that have bytes to read.
        folders: in it.
        others: links that lead nowhere, pipes and such.
    """

    files: list[Path]
    folders: list[Path]
    others: list[Path]


def look_into(folder: Path) -> Inside:
    """What lies in a folder.

    Raises:
        UserError: it may not be read.
    """
    inside = Inside([], [], [])
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LEFT_BEHIND]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in sorted(shown, key=lambda entry: entry.name):
        kind = inside.files if _holds(entry.is_file) else inside.folders if _holds(entry.is_dir) else inside.others
        kind.append(folder / entry.name)
    return inside


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # links in a circle
        return False


def report_left_out(folder: Path, files: list[Path], kind: str) -> None:
    """A line on stderr of what is left out, if anything is: it is none of that kind."""
    if files:
        names = some(str(file.relative_to(folder)) for file in files)
        number = "a file" if len(files) == 1 else f"{len(files)} files"
        print(f"{folder}: {number} left out, as no {kind}: {names}", file=sys.stderr)
