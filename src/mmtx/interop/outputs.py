"""Files that are written whole or not at all, whatever ends the process meanwhile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtx.errors import InvalidValue


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file to write to, which takes its place once it is whole.

    Raises:
        InvalidValue: it cannot be written.
    """
    with whole_folder(file.parent, out=file) as folder:
        yield folder / file.name


@contextmanager
def whole_folder(place: Path, *, others: Collection[str] = (), out: Path | None = None) -> Iterator[Path]:
    """A folder to write to, whose files take their place in another once all are whole.

    Args:
        place: the other, made if it is not there.
        others: names of files that would say something else of what is written, where they are left from before.
        out: what an error names; None: `place`.

    Raises:
        InvalidValue: it cannot be written, or holds one of the others.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=place) as folder:
            yield Path(folder)
            files = sorted(Path(folder).iterdir())
            left = sorted(name for name in set(others) - {file.name for file in files} if (place / name).exists())
            if left:
                raise InvalidValue("OUT", place, f"holds {', '.join(left)} of another model; name another folder")
            for file in files:
                os.replace(file, place / file.name)
    except OSError as error:
        raise InvalidValue("OUT", out or place, f"cannot be written: {error.strerror or error}") from None
