"""Files that hold the same, under whatever paths."""

from __future__ import annotations

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
"""From the middle of a file: what encoders write at either end is often the same."""
NUM_THREADS, FILES_AT_ONCE = 16, 256

Read = TypeVar("Read", bound=Hashable)


def first_of_same(files: Iterable[Path]) -> dict[Path, Path]:
    """For every file, the first that holds the same; mostly that is the file itself.

    A link is the file that it leads to. Of files of one size a few bytes are read, and those that agree in them are
    read whole. A file that is empty or cannot be read is like no other.
    """
    paths = list(dict.fromkeys(files))
    first = {path: path for path in paths}
    places: dict[tuple[int, int], Path] = {}
    keys: dict[Path, tuple[Hashable, ...]] = {}
    for path, status in zip(paths, _of_each(os.stat, paths), strict=True):
        if status is not None and status.st_size:
            first[path] = places.setdefault((status.st_dev, status.st_ino), path)
            keys[first[path]] = (status.st_size,)
    for read in (_sample, _digest):
        count = Counter(keys.values())
        alike = [path for path, key in keys.items() if count[key] > 1]
        found = zip(alike, _of_each(read, alike), strict=True)
        keys = {path: (*keys[path], value) for path, value in found if value is not None}
    contents: dict[tuple[Hashable, ...], Path] = {}
    same = {path: contents.setdefault(key, path) for path, key in keys.items()}
    return {path: same.get(place, place) for path, place in first.items()}


def first_of_splits(splits: Sequence[Sequence[Path]], where: str) -> dict[Path, Path]:
    """`first_of_same` of all files of some splits.

    Raises:
        UserError: what is in one split is in another, too, all such files together.
    """
    first = first_of_same(file for split in splits for file in split)
    seen: dict[Path, tuple[int, Path]] = {}
    problems = []
    for number, split in enumerate(splits):
        for file in split:
            other, known = seen.setdefault(first[file], (number, file))
            if other != number:
                problems.append(f"{file} holds the same as {known}, which is in another split; take one of them out")
    refuse_together(problems, where)
    return first


def _of_each(read: Callable[[Path], Read], files: Sequence[Path]) -> list[Read | None]:
    """What is read of every file, or None where it cannot be; in threads, as a network lets each file be waited for."""

    def part(start: int) -> list[Read | None]:
        return [_attempt(read, file) for file in files[start : start + FILES_AT_ONCE]]

    starts = range(0, len(files), FILES_AT_ONCE)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        parts = track(pool.map(part, starts), f"comparing {len(files)} files, part", len(starts))
        return [found for some in parts for found in some]


def _attempt(read: Callable[[Path], Read], file: Path) -> Read | None:
    check()  # else a request to stop waits for all files that are to be read
    try:
        return read(file)
    except (OSError, ValueError):  # the latter of a name with a NUL
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
