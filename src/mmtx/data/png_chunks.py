"""A PNG file without what its picture does not depend on."""

from __future__ import annotations

import io
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"tRNS", b"eXIf")
"""Chunks that change what is seen, though a reader may pass them over by their names: transparency, orientation."""


def needed_chunks(stream: io.BufferedReader) -> io.BufferedReader | io.BytesIO:
    """The chunks of a PNG file that its picture depends on, and another file as it is. Colour profiles, texts and
    further frames may be as large or as broken as they like.

    Raises:
        ValueError: the checksum of a chunk that is needed is wrong.
    """
    if stream.read(8) != SIGNATURE:
        stream.seek(0)
        return stream
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    name = b""
    while name != b"IEND" and len(head := stream.read(8)) == 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if name[0] & 0x20 and name not in NEEDED:  # a small letter: it may be passed over
            stream.seek(size + 4, io.SEEK_CUR)
            continue
        content = stream.read(size + 4)
        if len(content) == size + 4 and zlib.crc32(name + content[:-4]) != int.from_bytes(content[-4:], "big"):
            raise ValueError(f"the checksum of its chunk {name.decode('latin-1')} is wrong")
        kept.write(head + content)
    kept.seek(0)
    return kept
