"""Where the samples of a tar are: an index, made once and kept beside it."""

import hashlib
import io
import json
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy

from mmtx.data.files.cache import cache_folder, write_atomically
from mmtx.data.files.folder import SYSTEM_FILES
from mmtx.errors import UserError
from mmtx.process.stopping import track

VERSION = 1
KEY = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<kind>[^/]+)")
"""Of a member: its sample, and which part of it. The kind begins at the first dot of the file's name."""


@dataclass(frozen=True)
class TarIndex:
    """The members of a tar by sample.

    Attributes:
        kinds: of members: ``jpg``, ``txt``, ``json``.
        offsets: of each sample's member of each kind, in bytes; -1: it has none.
        sizes: of the same.
        keys: names of the samples, in UTF-8, one after the other.
        ends: of each name.
    """

    kinds: tuple[str, ...]
    offsets: numpy.ndarray
    sizes: numpy.ndarray
    keys: numpy.ndarray
    ends: numpy.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, sample: int) -> str:
        start = int(self.ends[sample - 1]) if sample else 0
        return self.keys[start : int(self.ends[sample])].tobytes().decode("utf-8", "surrogateescape")


def index_tar(file: Path) -> TarIndex:
    """The index of a tar: read from beside it, or from the cache folder where that cannot be written; else made.

    Raises:
        UserError: it is no plain tar, or a sample has a member twice.
    """
    status = file.stat()
    stamp = [VERSION, status.st_size, status.st_mtime_ns]
    hashed = hashlib.sha256(str(file.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    homes = [file.with_name(f"{file.name}.index.npz"), cache_folder() / "tar" / f"{hashed}.npz"]
    for home in homes:
        index = _read(home, stamp)
        if index is not None:
            return index
    index, stream = _made(file), io.BytesIO()
    head = numpy.frombuffer(json.dumps([stamp, index.kinds]).encode(), numpy.uint8)
    numpy.savez(stream, head=head, offsets=index.offsets, sizes=index.sizes, keys=index.keys, ends=index.ends)
    for home in homes:
        try:
            write_atomically(home, stream.getvalue())
            break
        except OSError:
            continue
    return index


def _read(home: Path, stamp: list[int]) -> TarIndex | None:
    """An index that was written; None where there is none, or it is of another state of the tar."""
    try:
        with numpy.load(home, allow_pickle=False) as arrays:
            written, kinds = json.loads(arrays["head"].tobytes())
            parts = [arrays[name] for name in ("offsets", "sizes", "keys", "ends")]
    except (OSError, ValueError, EOFError, LookupError, zipfile.BadZipFile):
        return None
    return TarIndex(tuple(kinds), *parts) if written == stamp else None


def _made(file: Path) -> TarIndex:
    kinds: dict[str, int] = {}
    members: list[tuple[int, int, int, int]] = []  # sample, kind, offset, size
    samples: dict[str, int] = {}
    try:
        with tarfile.open(file, mode="r:", errors="surrogateescape") as tar:
            for member in track(tar, f"indexing {file.name}, member"):
                setattr(tar, "members", [])  # noqa: B010  # which it would keep
                name = re.fullmatch(KEY, member.name.removeprefix("./"))
                if member.isfile() and name and not _is_left_behind(member.name):
                    sample = samples.setdefault(name["key"], len(samples))
                    kind = kinds.setdefault(name["kind"].lower(), len(kinds))
                    members.append((sample, kind, member.offset_data, member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        packed = "" if file.suffix == ".tar" else "; unpack it to a .tar, whose samples are read in any order"
        raise UserError(f"{file} cannot be read as a tar: {error}{packed}") from None
    if not members:
        raise UserError(f"{file} holds no samples: files such as 0001.jpg and 0001.txt")
    return _arrays(file, tuple(kinds), list(samples), numpy.array(members, dtype=numpy.int64))


def _arrays(file: Path, kinds: tuple[str, ...], samples: list[str], members: numpy.ndarray) -> TarIndex:
    sample, kind, offset, size = members.T
    offsets = numpy.full((len(samples), len(kinds)), -1, dtype=numpy.int64)
    sizes = numpy.zeros_like(offsets)
    offsets[sample, kind], sizes[sample, kind] = offset, size
    if (offsets >= 0).sum() < len(members):
        twice = next(i for i in range(len(members)) if offsets[sample[i], kind[i]] != offset[i])
        raise UserError(f"{file} holds {samples[sample[twice]]}.{kinds[kind[twice]]} twice; take one out")
    if members[-1, 2] + members[-1, 3] > file.stat().st_size:
        raise UserError(f"{file} is cut short: its last member ends behind it; fetch it again, or take it out")
    names = [key.encode("utf-8", "surrogateescape") for key in samples]
    ends = numpy.cumsum([len(name) for name in names], dtype=numpy.int64)
    return TarIndex(kinds, offsets, sizes, numpy.frombuffer(b"".join(names), numpy.uint8), ends)


def _is_left_behind(name: str) -> bool:
    return any(part in SYSTEM_FILES or (part.startswith(".") and part != ".") for part in name.split("/"))
