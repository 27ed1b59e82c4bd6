"""The chunk of samples in WAV and similar files: where it is, and how many bytes its header declares."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mmtx.data.files.file_bytes import ByteStream

UNKNOWN_SIZES = ((0x7F000000, 0x80000000), (0xFF000000, 0xFFFFFFFF), (1 << 62, (1 << 64) - 1))
"""Ranges of sizes that programs write to a pipe, before they know the size: the largest of 31, 32 or 64 bits, less the
header or a round number. SoX, arecord and ffmpeg have one each."""
IN_DS64 = 0xFFFFFFFF
"""In RF64: the size is in the chunk ds64."""
LARGEST_SIZE = 0xFFFFFFF0
"""The largest size in 32 bits, without those of a special meaning."""
MOST_CHUNKS = 1000
"""Limit for files of nothing but zeros."""


@dataclass(frozen=True)
class DataChunk:
    """The part of a sound file that holds its samples.

    Attributes:
        declared: bytes by its header; None where the program that wrote it did not know.
        present: bytes from its start to the end of the file.
        patches: ``{offset: bytes}`` that libsndfile has to read instead of those of the file.
    """

    declared: int | None
    present: int
    patches: Mapping[int, bytes] = field(default_factory=dict)


def find_data_chunk(stream: ByteStream, start: int, length: int) -> DataChunk | None:
    """The chunk with the samples, or None if there is none, or the file is neither WAV, Wave64, AIFF, 8SVX, CAF, AU nor
    NIST SPHERE.

    Recorders that write to a pipe or are killed leave an impossible size, or 0 with a wrong outer size: the size is
    then unknown, and samples extend to the end of the file. With a right outer size, 0 means that there are no samples.

    Args:
        stream: the file, opened for reading bytes.
        start: offset of the sound, after tags.
        length: of the file in bytes.
    """
    stream.seek(start)
    head = stream.read(1024)
    if head[:4] in (b".snd", b"dns."):
        return _of_au(head, start, length)
    if head[:8] == b"NIST_1A\n":
        return _of_nist(head, start, length)
    layout = _layout(head)
    if layout is None:
        return None
    outer, size_at, size_of_ds64 = int.from_bytes(head[4:8], layout.byteorder), 0, 0
    for chunk in _chunks(stream, start, layout):
        if chunk.name == b"ds64":
            stream.seek(chunk.begin)
            outer, size_of_ds64 = (int.from_bytes(stream.read(8), "little") for _ in range(2))
            size_at = chunk.begin + 8
        if chunk.name in (b"data", b"SSND", b"BODY"):
            present = length - chunk.begin
            size = size_of_ds64 if size_at and chunk.size == IN_DS64 else chunk.size
            is_open = layout.size_bytes == 4 and start + 8 + outer != length
            declared = None if _is_unknown(size, present) or (size == 0 and is_open) else size
            patches = {start: b"RF64"} if head[:4] == b"BW64" else {}  # the same in a newer standard
            if size_at and declared != size_of_ds64:
                patches[size_at] = (present if declared is None else declared).to_bytes(8, "little")
            elif declared is None:
                most = min(present + layout.counted, LARGEST_SIZE)
                patches[chunk.size_at] = most.to_bytes(layout.size_bytes, layout.byteorder)
            return DataChunk(declared, present, patches)
    return None


def _of_au(head: bytes, start: int, length: int) -> DataChunk:
    order: Literal["little", "big"] = "big" if head[:4] == b".snd" else "little"
    size, present = int.from_bytes(head[8:12], order), length - start - int.from_bytes(head[4:8], order)
    if present > 0 and (size == 0 or _is_unknown(size, present)):
        return DataChunk(None, present, {start + 8: min(present, LARGEST_SIZE).to_bytes(4, order)})
    return DataChunk(size, present)


def _of_nist(head: bytes, start: int, length: int) -> DataChunk | None:
    """NIST SPHERE, whose header is text: its own size, and named fields."""
    fields = dict(re.findall(rb"^(\w+) -i (\d+)\s*$", head, re.MULTILINE))
    size = head[8:16].strip()
    counts = [fields.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if not size.isdigit() or None in counts or b"embedded" in head:  # compressed samples
        return None
    frames, channels, width = (int(count or 0) for count in counts)
    return DataChunk(frames * channels * width, length - start - int(size))


def _is_unknown(size: int, present: int) -> bool:
    return size > present and any(least <= size <= most for least, most in UNKNOWN_SIZES)


class _Layout(NamedTuple):
    """The layout of chunks: offset of the first, bytes of a name and of a size, how many of these a size includes, and
    the alignment."""

    byteorder: Literal["little", "big"]
    first: int
    name_bytes: int
    size_bytes: int
    counted: int
    aligned: int


def _layout(head: bytes) -> _Layout | None:
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:12] == b"WAVE":
        return _Layout("big" if head[:4] == b"RIFX" else "little", 12, 4, 4, 0, 2)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _Layout("big", 12, 4, 4, 0, 2)
    if head[:4] == b"riff" and head[4:8] == b"\x2e\x91\xcf\x11":  # Wave64: names are GUIDs
        return _Layout("little", 40, 16, 8, 24, 8)
    if head[:4] == b"caff":
        return _Layout("big", 8, 4, 8, 0, 1)
    return None


class _Chunk(NamedTuple):
    name: bytes
    size_at: int
    begin: int
    size: int


def _chunks(stream: ByteStream, start: int, layout: _Layout) -> Iterator[_Chunk]:
    at = start + layout.first
    for _ in range(MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(layout.name_bytes + layout.size_bytes)
        if len(head) < layout.name_bytes + layout.size_bytes:
            return
        size = max(0, int.from_bytes(head[layout.name_bytes :], layout.byteorder) - layout.counted)
        yield _Chunk(head[:4], at + layout.name_bytes, at + len(head), size)
        at += len(head) + size + -(len(head) + size) % layout.aligned
