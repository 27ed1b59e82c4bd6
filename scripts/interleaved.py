"""Two things timed in one process, taking turns, so that whatever else the machine does touches both alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    pairs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Ratios first / second of interleaved pairs (A B B A ...), after three of each to warm up."""
    for _ in range(3):
        first(), second()
    ratios = []
    for pair in range(pairs):
        times = {}
        for name, step in (("a", first), ("b", second)) if pair % 2 else (("b", second), ("a", first)):
            start = clock()
            step()
            times[name] = clock() - start
        ratios.append(times["a"] / times["b"])
    return ratios


def report(what: str, ratios: list[float]) -> None:
    """Prints the median of the ratios with its 95% bootstrap interval."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(2000))
    low, high = medians[50], medians[-51]
    print(f"{what}: {statistics.median(ratios):.3f}  [{low:.3f}, {high:.3f}] over {len(ratios)} pairs", flush=True)
