"""A device, how long things take there, and what it can do at most."""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        value: with its unit.
        ratio: of the time, to that of the peer; empty where there is none.
        share: of a peak that was measured, 0 to 1; None where it means nothing.
        gib: peak memory over what is held between steps.
    """

    what: str
    value: str
    peer: str = ""
    ratio: float | None = None
    share: float | None = None
    gib: float | None = None


@dataclass(frozen=True)
class Timed:
    """Seconds of a call, and its peak memory over what was held before it."""

    seconds: float
    gib: float


@dataclass
class Device:
    """Where everything runs.

    Attributes:
        tiny: small sizes and nothing compiled, to try that it runs; no number means anything then.
    """

    name: str
    tiny: bool
    skipped: list[str] = field(default_factory=list)

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def title(self) -> str:
        return torch.cuda.get_device_name() if self.is_cuda else "a CPU"

    def bf16(self) -> Any:
        """Most operations in bfloat16, on float32 weights."""
        return torch.autocast(self.name, torch.bfloat16)

    def compiled(self) -> Any:
        """What is compiled within is, but where it is tiny."""
        return torch.compiler.set_stance("force_eager") if self.tiny else contextlib.nullcontext()

    def time(self, runs: Mapping[str, Callable[[], object]], count: int = 5, turns: int = 4) -> dict[str, Timed]:
        """Each call takes turns with the others: medians of the means of `count` calls, after five to warm up."""
        count, turns = (1, 1) if self.tiny else (count, turns)
        gib = {name: self._peak(run) for name, run in runs.items()}
        for run in runs.values():
            run(), run()
        means: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(turns):
            for name, run in runs.items():
                means[name].append(self._mean(run, count))
        return {name: Timed(statistics.median(means[name]), gib[name]) for name in runs}

    @cached_property
    def peak_flops(self) -> float:
        """Of products of two large matrices in bfloat16, a second."""
        size = 64 if self.tiny else 8192
        a, b = (torch.randn(size, size, device=self.name, dtype=torch.bfloat16) for _ in range(2))
        return 2 * size**3 / self._best(lambda: a @ b)

    @cached_property
    def peak_bytes(self) -> float:
        """Read a second, of a large tensor."""
        size = 2**16 if self.tiny else 2**29
        values = torch.ones(size, device=self.name)
        return 4 * size / self._best(values.sum)

    def _best(self, run: Callable[[], object]) -> float:
        run(), run()
        return min(self._mean(run, 1 if self.tiny else 10) for _ in range(1 if self.tiny else 5))

    def _mean(self, run: Callable[[], object], count: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        self.wait()
        return (time.perf_counter() - start) / count

    def _peak(self, run: Callable[[], object]) -> float:
        run()
        if not self.is_cuda:
            return 0.0
        run()
        self.wait()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.wait()
        return (torch.cuda.max_memory_allocated() - held) / 2**30

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Frees what an earlier part held, and the compiler's memory of its sizes."""
        torch.compiler.reset()
        if self.is_cuda:
            torch.cuda.empty_cache()
