"""How much may come out of a packed file that is read by another's library."""

from __future__ import annotations

from pathlib import Path

from mmtx.errors import UserError

LARGEST_RATIO = 200
"""Text and pictures become 2 to 20 times smaller; zeros, of which bombs are made, 1,000 times."""
FREE_BYTES = 32 << 20
"""So much may come out of anything."""


def check_unpacked(file: Path, size: int) -> None:
    """Raises `UserError` where a file claims to hold so many bytes, packed, that it can only be a bomb."""
    packed = file.stat().st_size
    if size > max(FREE_BYTES, LARGEST_RATIO * packed):
        raise UserError(
            f"{file} claims to hold {size} bytes in {packed}, more than {LARGEST_RATIO} times its size, a bomb: save "
            f"it without compression if it is none"
        )
