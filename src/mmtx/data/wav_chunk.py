"""Where the samples of a WAV file lie, and how many bytes its header says they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
NOT_SAID = 0xFFFFFFFF
"""The size that a program writes which does not know it yet; in RF64 the size then stands in another chunk."""
MOST_CHUNKS = 1000
"""So that a file of nothing but zeros does not take for ever."""


@dataclass(frozen=True)
class DataChunk:
    """The chunk of a WAV file that holds its samples.

    Attributes:
        size_at: offset in bytes of the 32 bits that hold its size.
        byteorder: ``little`` or ``big``.
        claimed: bytes that it says it has; None where a program wrote it that did not know, and never came back.
        there: bytes from its beginning to the end of the file.
    """

    size_at: int
    byteorder: str
    claimed: int | None
    there: int


def find_data_chunk(stream: BinaryIO, length: int) -> DataChunk | None:
    """The chunk with the samples, or None if there is none, or no WAV.

    A size of 0xFFFFFFFF, or of 0 in a file whose outer size is wrong too, is what recorders leave that write to a pipe
    or are killed: it is not said, and samples reach to the end of the file. A size of 0 in a file whose outer size is
    right means that there are no samples.

    Args:
        stream: the file, opened for reading bytes.
        length: of the file in bytes.
    """
    stream.seek(0)
    head = stream.read(12)
    if head[:4] not in MAGICS or head[8:12] != b"WAVE":
        return None
    order = "big" if head[:4] == b"RIFX" else "little"
    closed = _number(head[4:8], order) + 8 == length
    at, size_elsewhere = 12, None
    for _ in range(MOST_CHUNKS):
        stream.seek(at)
        chunk = stream.read(8)
        if len(chunk) < 8:
            return None
        size = _number(chunk[4:], order)
        if chunk[:4] == b"data":
            if size == NOT_SAID or (size == 0 and not closed):
                return DataChunk(at + 4, order, size_elsewhere, length - at - 8)
            return DataChunk(at + 4, order, size, length - at - 8)
        if chunk[:4] == b"ds64":
            size_elsewhere = _number(stream.read(16)[8:], order)
        at += 8 + size + size % 2
    return None


def _number(content: bytes, order: str) -> int:
    return int.from_bytes(content, "big" if order == "big" else "little")
