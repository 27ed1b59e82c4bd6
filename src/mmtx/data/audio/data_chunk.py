"""Where the samples of a sound file lie, and how many bytes its header says they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple

NOT_SAID = ((0x7F000000, 0x80000000), (0xFF000000, 0xFFFFFFFF), (1 << 62, (1 << 64) - 1))
"""Sizes that programs write to a pipe, where they do not know them yet: the largest that 31, 32 or 64 bits hold, less
what comes before the samples or a round number. SoX, arecord and ffmpeg have one each."""
ELSEWHERE = 0xFFFFFFFF
"""In RF64: the size stands in another chunk."""
MOST_SAID = 0xFFFFFFF0
"""The largest size that 32 bits say, less what has a meaning of its own."""
MOST_CHUNKS = 1000
"""So that a file of nothing but zeros does not take for ever."""


@dataclass(frozen=True)
class DataChunk:
    """The part of a sound file that holds its samples.

    Attributes:
        claimed: bytes that it says it has; None where a program wrote it that did not know, and never came back.
        there: bytes from its beginning to the end of the file.
        mended: by their offsets, bytes that libsndfile needs to see in place of those of the file.
    """

    claimed: int | None
    there: int
    mended: Mapping[int, bytes] = field(default_factory=dict)


def find_data_chunk(stream: BinaryIO, start: int, length: int) -> DataChunk | None:
    """The chunk with the samples, or None if there is none, or the file is neither WAV, Wave64, AIFF, 8SVX, CAF, AU nor
    NIST SPHERE.

    A size that no file has, or of 0 in a file whose outer size is wrong too, is what recorders leave that write to a
    pipe or are killed: it is not said, and samples reach to the end of the file. A size of 0 in a file whose outer size
    is right means that there are no samples.

    Args:
        stream: the file, opened for reading bytes.
        start: where the sound begins in it, after tags.
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
            there = length - chunk.begin
            size = size_of_ds64 if size_at and chunk.size == ELSEWHERE else chunk.size
            is_open = layout.size_bytes == 4 and start + 8 + outer != length
            claimed = None if _is_not_said(size, there) or (size == 0 and is_open) else size
            mended = {start: b"RF64"} if head[:4] == b"BW64" else {}  # the same, by a younger standard
            if size_at and claimed != size_of_ds64:
                mended[size_at] = (there if claimed is None else claimed).to_bytes(8, "little")
            elif claimed is None:
                most = min(there + layout.counted, MOST_SAID)
                mended[chunk.size_at] = most.to_bytes(layout.size_bytes, layout.byteorder)
            return DataChunk(claimed, there, mended)
    return None


def _of_au(head: bytes, start: int, length: int) -> DataChunk:
    order: Literal["little", "big"] = "big" if head[:4] == b".snd" else "little"
    size, there = int.from_bytes(head[8:12], order), length - start - int.from_bytes(head[4:8], order)
    if there > 0 and (size == 0 or _is_not_said(size, there)):
        return DataChunk(None, there, {start + 8: min(there, MOST_SAID).to_bytes(4, order)})
    return DataChunk(size, there)


def _of_nist(head: bytes, start: int, length: int) -> DataChunk | None:
    """Its header is text: its own size, and fields by their names."""
    fields = dict(re.findall(rb"^(\w+) -i (\d+)\s*$", head, re.MULTILINE))
    size = head[8:16].strip()
    counts = [fields.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if not size.isdigit() or None in counts or b"embedded" in head:  # samples that are compressed
        return None
    frames, channels, width = (int(count or 0) for count in counts)
    return DataChunk(frames * channels * width, length - start - int(size))


def _is_not_said(size: int, there: int) -> bool:
    return size > there and any(least <= size <= most for least, most in NOT_SAID)


class _Layout(NamedTuple):
    """How the chunks of a file follow each other: bytes of a name and of a size; bytes that a size counts of these two;
    and what chunks begin at a multiple of."""

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


def _chunks(stream: BinaryIO, start: int, layout: _Layout) -> Iterator[_Chunk]:
    at = start + layout.first
    for _ in range(MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(layout.name_bytes + layout.size_bytes)
        if len(head) < layout.name_bytes + layout.size_bytes:
            return
        size = max(0, int.from_bytes(head[layout.name_bytes :], layout.byteorder) - layout.counted)
        yield _Chunk(head[:4], at + layout.name_bytes, at + len(head), size)
        at += len(head) + size + -(len(head) + size) % layout.aligned
