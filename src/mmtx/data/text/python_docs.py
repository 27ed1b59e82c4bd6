"""The source of Python's standard library, prose and code: text that is at hand wherever this runs."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mmtx.data.text.text_file import TextStream
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError

LEFT_OUT = {
    "test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__",
    "encodings",  # tables, not prose
}  # fmt: skip
CHARACTERS = bytes(range(32, 127)) + b"\n"


class PythonDocs(TextStream):
    """Name: ``text``. Modules of the Python that runs it, one after the other; they differ a little from version to
    version, and so do results.

    The order is shuffled, by a hash of the modules' paths, so that what is held out is like the rest. Modules that
    hold anything but printable ASCII and line ends are left out (one in a hundred), and so a vocabulary of characters
    has 96 at most.

    Args:
        vocabulary: how text becomes ids.
        context: ids that a window predicts.
        val_fraction: the last part of the text, held out.
        max_chars: length of the text, of some 8 million.
    """

    def __init__(self, *, vocabulary: TextVocabulary, context: int, val_fraction: float, max_chars: int) -> None:
        if max_chars < 1:
            raise InvalidValue("max_chars", max_chars, "must be at least 1")
        folder = Path(sysconfig.get_paths()["stdlib"])
        text = _read(folder, max_chars)
        if not text:
            raise UserError(f"{folder} holds no source of the standard library; data=text_file takes text of your own")
        where = f"the standard library, cut to data.max_chars={max_chars},"
        super().__init__(text=text, vocabulary=vocabulary, context=context, val_fraction=val_fraction, where=where)


def _read(folder: Path, max_chars: int) -> str:
    text = bytearray()
    for module in sorted(_modules(folder), key=lambda module: hashlib.sha256(module.encode()).digest()):
        source = (folder / module).read_bytes().replace(b"\r\n", b"\n")
        if not source.translate(None, CHARACTERS):
            text += source
        if len(text) >= max_chars:
            break
    return text[:max_chars].decode("ascii")


def _modules(folder: Path) -> Iterator[str]:
    """Paths of the modules below a folder, with forward slashes."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in files:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):  # paths of this machine
                yield (Path(place) / name).relative_to(folder).as_posix()
