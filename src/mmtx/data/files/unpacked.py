"""How much may come out of a packed file that is read by another's library."""

from __future__ import annotations

from pathlib import Path

from mmtx.data.files.gunzip import LARGEST_RATIO
from mmtx.errors import UserError

FREE_BYTES = 32 << 20


def check_unpacked(file: Path, size: int) -> None:
    """Raises `UserError` where a file claims to hold so many bytes, packed, that it can only be a bomb."""
    packed = file.stat().st_size
    if size > max(FREE_BYTES, LARGEST_RATIO * packed):
        raise UserError(
            f"{file} claims to hold {size} bytes in {packed}, more than {LARGEST_RATIO} times its size, a bomb: save "
            f"it without compression if it is none"
        )
