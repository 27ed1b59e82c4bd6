"""The numbers that a key may have."""

from __future__ import annotations

from mmtx.errors import InvalidValue


def check_within(key: str, value: int, low: int, high: int) -> None:
    """Raises `InvalidValue` where a number lies outside of its limits, themselves included."""
    if not low <= value <= high:
        raise InvalidValue(key, value, f"must lie in {low}..{high}", str(min(max(value, low), high)))
