"""Files with the same content, under whatever paths."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mmtx.errors import refuse_together
from mmtx.process.stopping import check, track

SAMPLE_BYTES = 64
"""Read from the middle of a file: what encoders write at either end is often the same."""
NUM_THREADS, FILES_AT_ONCE = 16, 256

Read = TypeVar("Read", bound=Hashable)


def first_copies(files: Iterable[Path]) -> dict[Path, Path]:
    """For every file, the first with the same content; mostly that is the file itself.

    Links are followed. Of files of equal size a few bytes are read, and files that agree in these are read whole. An
    empty or unreadable file equals no other.
    """
    paths = list(dict.fromkeys(files))
    first = {path: path for path in paths}
    by_inode: dict[tuple[int, int], Path] = {}
    keys: dict[Path, tuple[Hashable, ...]] = {}
    for path, status in zip(paths, _of_each(os.stat, paths), strict=True):
        if status is not None and status.st_size:
            first[path] = by_inode.setdefault((status.st_dev, status.st_ino), path)
            keys[first[path]] = (status.st_size,)
    for read in (_sample, _digest):
        count = Counter(keys.values())
        alike = [path for path, key in keys.items() if count[key] > 1]
        found = zip(alike, _of_each(read, alike), strict=True)
        keys = {path: (*keys[path], value) for path, value in found if value is not None}
    contents: dict[tuple[Hashable, ...], Path] = {}
    same = {path: contents.setdefault(key, path) for path, key in keys.items()}
    return {path: same.get(file, file) for path, file in first.items()}


def first_copies_of_splits(splits: Sequence[Sequence[Path]], where: str) -> dict[Path, Path]:
    """`first_copies` of all files of some splits.

    Raises:
        UserError: files of two splits have the same content, all such files together.
    """
    first = first_copies(file for split in splits for file in split)
    seen: dict[Path, tuple[int, Path]] = {}
    problems = []
    for number, split in enumerate(splits):
        for file in split:
            other, earlier = seen.setdefault(first[file], (number, file))
            if other != number:
                problems.append(f"{file} holds the same as {earlier}, which is in another split; take one of them out")
    refuse_together(problems, where)
    return first


def _of_each(read: Callable[[Path], Read], files: Sequence[Path]) -> list[Read | None]:
    """What `read` returns for every file, None where it fails; in threads, as each read of a network drive waits."""

    def block(start: int) -> list[Read | None]:
        return [_attempt(read, file) for file in files[start : start + FILES_AT_ONCE]]

    starts = range(0, len(files), FILES_AT_ONCE)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        parts = track(pool.map(block, starts), f"comparing {len(files)} files, part", len(starts))
        return [found for part in parts for found in part]


def _attempt(read: Callable[[Path], Read], file: Path) -> Read | None:
    check()  # else a request to stop waits for all files
    try:
        return read(file)
    except (OSError, ValueError):  # the latter for a name with a NUL
        return None


def _sample(file: Path) -> bytes:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.pread(descriptor, SAMPLE_BYTES, os.fstat(descriptor).st_size // 2)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
