"""A checkpoint written to disk, whole or not at all, and verified when it is read."""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
from torch.utils._pytree import tree_leaves

from mmtx.errors import UserError

MANIFEST = re.compile(rb'\n\{"size": (\d+), "sha256": "([0-9a-f]{64})"\}\n\Z')
"""The last line of the file: size and hash of everything before it. A copy of the file brings it along."""
CHUNK = 1 << 20
HASHED_IN_PLACE = 1 << 16  # bytes of a write from which it is not copied
SETTLED_NS = 10**9
"""A file that changes twice in less than the resolution of its file system's clock looks unchanged."""

_verified: set[tuple[int, ...]] = set()


class CheckpointError(UserError):
    """A checkpoint cannot be written or read."""


def write_checkpoint(file: Path, content: dict[str, Any], names: Sequence[Path] = ()) -> None:
    """Writes beside the file, to disk, and only then over it. What was there before stays until the new one is safe.

    Args:
        file: by which a run that goes on finds it.
        content: of the checkpoint.
        names: others that it gets first: whoever finds the file finds them renewed.

    Raises:
        CheckpointError: it cannot be written; nothing has changed.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as stream, ThreadPoolExecutor(1) as pool:
            tensors = [leaf for leaf in tree_leaves(content) if isinstance(leaf, torch.Tensor) and leaf.is_cpu]
            hashed = _Hashed(stream, pool, lasting={tensor.untyped_storage().data_ptr() for tensor in tensors})
            with _without_crc32():
                torch.save(content, hashed)  # type: ignore[arg-type]
            hashed.finish()
            stream.flush()
            os.fsync(stream.fileno())
        _put_in_place(partial, file, names)
    except OSError as error:
        needed = partial.stat().st_size if partial.exists() else 0
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {file}: {error.strerror}{_room(file.parent, needed)}") from None


def _put_in_place(partial: Path, file: Path, names: Sequence[Path]) -> None:
    for name in names:
        link(partial, name)
    if names:
        sync_directory(file.parent)
    os.replace(partial, file)
    sync_directory(file.parent)


def link(file: Path, name: Path) -> None:
    """Gives a file a second name, in place of what had it; a copy where the file system knows no links."""
    partial = name.with_name(f".{name.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:
        shutil.copyfile(file, partial)
    os.replace(partial, name)


def sync_directory(folder: Path) -> None:
    """Puts names on disk, as fsync of a file does with its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(file: Path) -> None:
    """Raises CheckpointError unless the file is, byte for byte, what was written. A process that verifies a file again
    hashes it again only if it has changed."""
    with _settled(file) as stream:
        if stream is not None:
            found, total = _manifest(file, stream), stream.tell()
            if int(found[1]) != total - len(found[0]):
                written = f"{file} holds {total - len(found[0])} bytes, its manifest declares {int(found[1])}"
                raise CheckpointError(written)
            _compare(file, stream, int(found[1]), found[2].decode())


def verify_hash(file: Path, size: int, sha256: str) -> None:
    """The same for a file without a manifest, of which another file has size and hash."""
    with _settled(file) as stream:
        if stream is not None:
            if (total := stream.seek(0, os.SEEK_END)) != size:
                raise CheckpointError(f"{file} holds {total} bytes, and {size} were written")
            _compare(file, stream, size, sha256)


@contextlib.contextmanager
def _settled(file: Path) -> Iterator[BinaryIO | None]:
    """A file to be verified; None: it was, and has not changed."""
    try:
        with file.open("rb") as stream:
            status, now = os.fstat(stream.fileno()), time.time_ns()
            version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            yield None if version in _verified else stream
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None
    if now - status.st_ctime_ns > SETTLED_NS:
        _verified.add(version)


def hash_of(file: Path) -> str:
    """SHA-256 of a whole file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stored_hash(file: Path) -> str:
    """The hash that the manifest of a file declares.

    Raises:
        CheckpointError: it cannot be read, or has no manifest.
    """
    try:
        with file.open("rb") as stream:
            return _manifest(file, stream)[2].decode()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None


def _manifest(file: Path, stream: BinaryIO) -> re.Match[bytes]:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 200))
    found = MANIFEST.search(stream.read())
    if found is None:
        raise CheckpointError(f"{file} has no manifest at its end: it was cut off, or mmtx did not write it")
    return found


def _compare(file: Path, stream: BinaryIO, size: int, expected: str) -> None:
    """The hash of the first bytes of a file with another."""
    stream.seek(0)
    digest, left = hashlib.sha256(), size
    while left and (chunk := stream.read(min(CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest() != expected:
        raise CheckpointError(f"{file}: sha256 differs (expected {expected[:8]}…, got {digest.hexdigest()[:8]}…)")


class _Hashed:
    """A file that a second thread hashes as it is written, and while it goes to disk. An error is kept until `finish`:
    torch must not be left in the middle of its archive.

    Args:
        stream: where to.
        pool: of one thread.
        lasting: addresses of what stays in memory until `finish`, as tensors on the host do. All else that is large
            (the pickle, copies of tensors on a device) is hashed before `write` returns.
    """

    def __init__(self, stream: BinaryIO, pool: ThreadPoolExecutor, lasting: Collection[int]) -> None:
        self._stream, self._pool, self._lasting = stream, pool, lasting
        self._digest, self._size, self._hashing = hashlib.sha256(), 0, deque[Future[None]]()
        self._error: Exception | None = None

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._take(data, size)
            except Exception as error:
                self._error = error
        return size

    def _take(self, data: Any, size: int) -> None:
        large = size > HASHED_IN_PLACE
        self._hashing.append(self._pool.submit(self._digest.update, data if large else bytes(data)))
        self._stream.write(data)
        if large and numpy.frombuffer(data, numpy.uint8).ctypes.data not in self._lasting:
            self._wait()
        self._size += size

    def flush(self) -> None:
        """Required by torch; the file is flushed once, at the end."""

    def finish(self) -> None:
        if self._error is not None:
            raise self._error
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._wait()
        self._stream.write(b'\n{"size": %d, "sha256": "%s"}\n' % (self._size, self._digest.hexdigest().encode()))

    def _wait(self) -> None:
        while self._hashing:
            self._hashing.popleft().result()


@contextlib.contextmanager
def _without_crc32() -> Iterator[None]:
    """The archive's own sums, which torch does not check when it reads, cost as much time as the hash."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def _room(folder: Path, needed: int) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f" ({needed / 2**20:.1f} MiB had been written, {free / 2**20:.1f} MiB are free)"
