"""Two things timed in one process, taking turns, so that whatever else the machine does touches both alike."""

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtx.process.kept_memory import keep_freed_memory


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        quick: tiny sizes and one pair: it tries whether everything runs, and its numbers mean nothing.
        threads: of torch.
    """

    quick: bool
    threads: int

    def pairs(self, pairs: int) -> int:
        return 1 if self.quick else pairs


@dataclass(frozen=True)
class Row:
    """A line of the table: of what, beside which peer, and the number."""

    what: str
    peer: str
    value: str


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    pairs: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = 3,
) -> list[float]:
    """Ratios first / second of interleaved pairs (A B B A ...), after some of each to warm up."""
    for _ in range(warm_up):
        first(), second()
    ratios = []
    for pair in range(pairs):
        times = {}
        for name, step in (("a", first), ("b", second)) if pair % 2 else (("b", second), ("a", first)):
            times[name] = seconds(step, clock)
        ratios.append(times["a"] / times["b"])
    return ratios


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median, and its 95% bootstrap interval."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(2000))
    return statistics.median(ratios), medians[50], medians[-51]


def ratio(what: str, peer: str, ratios: list[float]) -> Row:
    """A row of the median ratio."""
    median, low, high = interval(ratios)
    return Row(what, peer, f"{median:.3f} [{low:.3f}, {high:.3f}], {len(ratios)} pairs")


def peak_mib(effort: Effort, steps: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """Peak resident memory of what `steps(*arguments)` gives, over that before it runs, in a fresh process (but here
    where it is quick). Linux only."""
    if effort.quick:
        return _peak_mib(effort.threads, steps, *arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (effort.threads, steps, *arguments))


def _peak_mib(threads: int, steps: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory()
    run = steps(*arguments)
    before = _resident_mib("VmRSS")
    run()
    return _resident_mib("VmHWM") - before


def _resident_mib(key: str) -> float:
    """As Linux has it for this process alone; `getrusage` would give the peak of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024
