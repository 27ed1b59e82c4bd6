"""Files that were packed by gzip."""

from __future__ import annotations

import zlib

BLOCK = 1 << 14


def gunzip(packed: bytes, most: int) -> bytes:
    """What is in a packed file.

    Args:
        packed: one or several gzip streams.
        most: bytes that may come out.

    Raises:
        ValueError: it is damaged or holds more; the text is a predicate, to go behind the name of a file.
    """
    out, stream, rest, at = bytearray(), zlib.decompressobj(wbits=31), b"", 0
    try:
        while rest or at < len(packed):
            if not rest:
                rest, at = packed[at : at + BLOCK], at + BLOCK
            if stream.eof:
                stream = zlib.decompressobj(wbits=31)
            out += stream.decompress(rest, 1 << 20)
            rest = stream.unused_data.lstrip(b"\0") if stream.eof else stream.unconsumed_tail
            if len(out) > most:
                raise ValueError(f"cannot be unpacked: more than {most} bytes come out")
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    if not stream.eof:
        raise ValueError("cannot be unpacked: it ends too early")
    return bytes(out)
