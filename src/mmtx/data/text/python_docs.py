"""The source of Python's standard library: text that is available on every machine."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mmtx.data.text.text_file import TextStream
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError, check_at_least

SKIPPED = {
    "test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__",
    "encodings",  # tables, not prose
}  # fmt: skip
CHARACTERS = bytes(range(32, 127)) + b"\n"


class PythonDocs(TextStream):
    """Name: ``text``. The modules of the running Python, concatenated; they differ a little between versions, and so do
    results.

    Modules are ordered by a hash of their paths, so that the held-out end is like the rest. Modules with anything but
    printable ASCII and line ends are skipped (one in a hundred), so that a vocabulary of characters has at most 96.

    Args:
        vocabulary: of the text.
        context: number of ids that a window predicts.
        val_fraction: share at the end of the text that is held out.
        max_chars: length that the text, of some 8 million characters, is cut to.
    """

    def __init__(self, *, vocabulary: TextVocabulary, context: int, val_fraction: float, max_chars: int) -> None:
        check_at_least("max_chars", max_chars, 1)
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
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in files:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):  # paths of this machine
                yield (Path(place) / name).relative_to(folder).as_posix()
