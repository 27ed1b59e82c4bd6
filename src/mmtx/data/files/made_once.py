"""What a dataset makes by itself: once, and then it is in the cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy

from mmtx.data.files.public_file import cache_folder, write_whole

Arrays = dict[str, numpy.ndarray]
Content = TypeVar("Content")


def made_once(
    kind: str, settings: Sequence[object], make: Callable[[], Arrays], read: Callable[[Arrays], Content]
) -> Content:
    """Arrays from the cache folder (``$XDG_CACHE_HOME/mmtx``, or ``~/.cache/mmtx``), or made and put there.

    A file that is damaged or cannot be written is no error: standard error says so, and the arrays are made anew.

    Args:
        kind: folder within the cache folder.
        settings: everything that the arrays depend on, as JSON has it. Each has a file of its own.
        make: the arrays.
        read: what is wanted, out of the arrays; raises `ValueError` where they are others than wanted.
    """
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    file = cache_folder() / kind / f"{key}.npz"
    try:
        return _read(file, read)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _say(f"{file} cannot be read ({error}); it is made anew")
    arrays, stream = make(), io.BytesIO()
    numpy.savez(stream, **arrays)  # type: ignore[arg-type]  # its allow_pickle is not among them
    try:
        write_whole(file, stream.getvalue())
    except OSError as error:
        _say(f"{file} cannot be written ({error}); the next run makes it anew")
    return read(arrays)


def _read(file: Path, read: Callable[[Arrays], Content]) -> Content:
    """Raises `ValueError` where it is damaged: the parts of an archive carry checksums. Nothing is unpickled."""
    content = io.BytesIO(file.read_bytes())
    try:
        with numpy.load(content, allow_pickle=False) as parts:
            return read(dict(parts))
    except (OSError, EOFError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from None


def _say(line: str) -> None:
    print(f"mmtx: {line}", file=sys.stderr, flush=True)
