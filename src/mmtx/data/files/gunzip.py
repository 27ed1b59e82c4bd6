"""Files that were packed by gzip, as long as they are what they seem."""

from __future__ import annotations

import zlib

LARGEST_RATIO = 200
"""Text and pictures become 2 to 20 times smaller; zeros, of which bombs are made, 1,000 times."""
FREE_BYTES = 16 << 20
"""So much may come out of anything."""
BLOCK = 1 << 14


def gunzip(packed: bytes, most: int | None = None) -> bytes:
    """What is in a packed file, unpacked no further than until it is seen to be a bomb.

    Args:
        packed: one or several gzip streams.
        most: bytes that can be in it; None: as many as `LARGEST_RATIO` allows.

    Raises:
        ValueError: it is damaged or a bomb; the text is a predicate, to go behind the name of a file.
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
            _check(len(out), min(at, len(packed)), most)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    if not stream.eof:
        raise ValueError("cannot be unpacked: it ends too early")
    return bytes(out)


def _check(unpacked: int, packed: int, most: int | None) -> None:
    if unpacked > max(FREE_BYTES, LARGEST_RATIO * packed):
        raise ValueError(f"cannot be unpacked: {packed} bytes of it become more than {unpacked}, as of a bomb")
    if most is not None and unpacked > most:
        raise ValueError(f"cannot be unpacked: more than {most} bytes come out")
