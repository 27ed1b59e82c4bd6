"""The cache folder: arrays that datasets generate once, and files that they download."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy

Arrays = dict[str, numpy.ndarray]
Content = TypeVar("Content")


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mmtx``, or ``~/.cache/mmtx``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmtx"


def cached_arrays(
    kind: str, settings: Sequence[object], make: Callable[[], Arrays], read: Callable[[Arrays], Content]
) -> Content:
    """Arrays from the cache folder, or generated and saved there.

    A file that is damaged or cannot be written is no error: a line on stderr names it, and the arrays are generated.

    Args:
        kind: folder within the cache folder.
        settings: everything that the arrays depend on, as JSON; the name of the file is its hash. The first is the
            version of the generation, which is increased where the same settings come to give other arrays.
        make: generates the arrays.
        read: parses the arrays; raises `ValueError` where they do not fit the settings.
    """
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    file = cache_folder() / kind / f"{key}.npz"
    try:
        return _read(file, read)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _warn(f"{file} cannot be read ({error}); it is generated again")
    arrays, stream = make(), io.BytesIO()
    numpy.savez(stream, **arrays)  # type: ignore[arg-type]  # its allow_pickle is not among them
    try:
        write_atomically(file, stream.getvalue())
    except OSError as error:
        _warn(f"{file} cannot be written ({error}); the next run generates it again")
    return read(arrays)


def cached_folder(
    kind: str, settings: Sequence[object], make: Callable[[Path | None], Content], read: Callable[[Path], Content]
) -> Content:
    """What a folder in the cache holds, which is made where it is not there.

    Args:
        kind: folder within the cache folder.
        settings: everything that the content depends on, as JSON, its version first.
        make: writes the files to a folder; without one, where none can be written, it keeps all in memory.
        read: reads them again; raises `OSError`, `ValueError` or `LookupError` where they are damaged.
    """
    home = cache_folder() / kind / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    if home.is_dir():
        try:
            return read(home)
        except (OSError, ValueError, LookupError) as error:
            _warn(f"{home} cannot be read ({error}); it is made again")
            shutil.rmtree(home, ignore_errors=True)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=home.parent, prefix=".", suffix=".part"))
    except OSError as error:
        _warn(f"{home} cannot be written ({error}); the next run makes it again")
        return make(None)
    try:
        make(draft)
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(draft, home)
        return read(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _read(file: Path, read: Callable[[Arrays], Content]) -> Content:
    """Raises `ValueError` where it is damaged, as the checksums in the archive show. Nothing is unpickled."""
    content = io.BytesIO(file.read_bytes())
    try:
        with numpy.load(content, allow_pickle=False) as parts:
            return read(dict(parts))
    except (OSError, EOFError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from None


def _warn(line: str) -> None:
    print(f"mmtx: {line}", file=sys.stderr, flush=True)


def write_atomically(file: Path, content: bytes) -> None:
    """Writes a file that no other process can see half-written, also where several write it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
