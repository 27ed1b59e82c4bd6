"""Compressed files, and how much may come out of them."""

import zlib
from pathlib import Path

from mmtx.errors import UserError

LARGEST_RATIO = 200
"""Text and pictures shrink to a half or a twentieth; zeros, of which bombs are made, to a thousandth."""
FREE_BYTES = 32 << 20
"""That any file may expand to, whatever its ratio."""
BLOCK = 1 << 14


def gunzip(packed: bytes, most: int) -> bytes:
    """Decompresses gzip.

    Args:
        packed: one or several gzip streams.
        most: bytes that may come out.

    Raises:
        ValueError: it is damaged or holds more; the text is a predicate, to follow the name of the file.
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


def check_expansion(file: Path, size: int) -> None:
    """Raises `UserError` for a file that is read by another library and would expand to more bytes than it can hold."""
    packed = file.stat().st_size
    if size > max(FREE_BYTES, LARGEST_RATIO * packed):
        raise UserError(
            f"{file} claims to hold {size} bytes in {packed}, more than {LARGEST_RATIO} times its size, a bomb: save "
            f"it without compression if it is none"
        )
