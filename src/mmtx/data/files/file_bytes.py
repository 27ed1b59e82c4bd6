"""Files that lie within another: the bytes of a picture or a sound in a table or an archive."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

ByteStream = BinaryIO | io.BytesIO
"""An open file, or bytes in memory."""


@dataclass(frozen=True)
class FileBytes:
    """The content of a file; `where` is its name in an error."""

    where: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.where


def open_bytes(file: Path | FileBytes, buffering: int = -1) -> ByteStream:
    """A stream of the bytes of a file, wherever it lies; `buffering` as `open` has it."""
    return io.BytesIO(file.data) if isinstance(file, FileBytes) else open(file, "rb", buffering)
