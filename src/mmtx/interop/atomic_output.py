"""Atomic output: files that appear only once they are whole."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtx.errors import InvalidValue


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """A temporary file, which is moved to its place once it is whole.

    Raises:
        InvalidValue: it cannot be written.
    """
    with atomic_folder(file.parent, out=file) as folder:
        yield folder / file.name


@contextmanager
def atomic_folder(target: Path, *, conflicting: Collection[str] = (), out: Path | None = None) -> Iterator[Path]:
    """A temporary folder, whose files are moved to another once all are whole.

    Args:
        target: the other folder, made if it is missing.
        conflicting: names of files that would contradict what is written, if an earlier model left them.
        out: path in an error; None: `target`.

    Raises:
        InvalidValue: it cannot be written, or holds a conflicting file.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=target) as folder:
            yield Path(folder)
            files = sorted(Path(folder).iterdir())
            left = sorted(name for name in set(conflicting) - {file.name for file in files} if (target / name).exists())
            if left:
                raise InvalidValue("OUT", target, f"holds {', '.join(left)} of another model; name another folder")
            for file in files:
                os.replace(file, target / file.name)
    except OSError as error:
        raise InvalidValue("OUT", out or target, f"cannot be written: {error.strerror or error}") from None
