"""The listing of a folder, without hidden files and those that operating systems leave behind."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmtx.errors import UserError, some

SYSTEM_FILES = (
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "__MACOSX", "@eaDir", "lost+found"),
    *("$RECYCLE.BIN", "System Volume Information"),
)


@dataclass(frozen=True)
class FolderListing:
    """The entries of a folder in the order of their names, links followed, without hidden and `SYSTEM_FILES`.

    Attributes:
        files: regular files.
        folders: subfolders.
        others: broken links, pipes and such.
    """

    files: list[Path]
    folders: list[Path]
    others: list[Path]


def list_folder(folder: Path) -> FolderListing:
    """Lists a folder.

    Raises:
        UserError: it cannot be read.
    """
    listing = FolderListing([], [], [])
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in SYSTEM_FILES]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in sorted(shown, key=lambda entry: entry.name):
        kind = listing.files if _is(entry.is_file) else listing.folders if _is(entry.is_dir) else listing.others
        kind.append(folder / entry.name)
    return listing


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # circular links
        return False


def report_skipped(folder: Path, files: list[Path], kind: str) -> None:
    """Writes a line to stderr that names the skipped files, if there are any: they are of another kind."""
    if files:
        names = some(str(file.relative_to(folder)) for file in files)
        number = "a file" if len(files) == 1 else f"{len(files)} files"
        print(f"{folder}: {number} left out, as no {kind}: {names}", file=sys.stderr)
