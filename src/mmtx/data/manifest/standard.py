"""Means and deviations of numbers over some rows."""

from collections.abc import Callable

import numpy

from mmtx.data.files.lists import Lists

AT_ONCE = 1 << 16
"""Rows that are summed at a time."""


def moments(values: Lists, is_chosen: numpy.ndarray, size: int) -> dict[str, list[float]]:
    """``mean`` and ``std`` of the numbers of some rows, `size` of them a step; a deviation of 0 is given as 1."""
    mean = _mean(values, is_chosen, size, lambda part: part)
    std = numpy.sqrt(_mean(values, is_chosen, size, lambda part: (part - mean) ** 2))
    return {"mean": mean.tolist(), "std": numpy.where(std > 0, std, 1.0).tolist()}


def _mean(
    values: Lists, is_chosen: numpy.ndarray, size: int, of: Callable[[numpy.ndarray], numpy.ndarray]
) -> numpy.ndarray:
    total, count = numpy.zeros(size), 0
    for start in range(0, len(values), AT_ONCE):
        ends = values.ends[start : start + AT_ONCE + 1]
        mask = numpy.repeat(is_chosen[start : start + AT_ONCE], numpy.diff(ends))
        part = values.values[ends[0] : ends[-1]][mask].reshape(-1, size).astype(numpy.float64)
        total, count = total + of(part).sum(0), count + len(part)
    return total / max(count, 1)
