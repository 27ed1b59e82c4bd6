"""The numbers that a key may have."""

from __future__ import annotations

from pathlib import Path

from mmtx.errors import InvalidValue, UserError

LARGEST_RATIO, FREE_BYTES = 200, 32 << 20


def check_within(key: str, value: int, low: int, high: int) -> None:
    """Raises `InvalidValue` where a number lies outside of its limits, themselves included."""
    if not low <= value <= high:
        raise InvalidValue(key, value, f"must lie in {low}..{high}", str(min(max(value, low), high)))


def check_unpacked(file: Path, size: int) -> None:
    """Raises `UserError` where a file claims to hold so many bytes, packed, that it can only be a bomb."""
    packed = file.stat().st_size
    if size > max(FREE_BYTES, LARGEST_RATIO * packed):
        raise UserError(
            f"{file} claims to hold {size} bytes in {packed}, more than {LARGEST_RATIO} times its size, a bomb: save "
            f"it without compression if it is none"
        )
