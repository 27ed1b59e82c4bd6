"""Warm-up and schedules of the learning rate: the factor on the base rate at a step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from mmtx.errors import InvalidValue


def warmed_up(schedule: Schedule, step: int, warmup_steps: float, total_steps: int) -> float:
    """The factor at an optimiser step, counted from 0: a straight line up over the warm-up, then the schedule."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return schedule(min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0))


class Schedule(ABC):
    """From the share of the run done after warm-up, in [0, 1], to a factor in [0, 1]."""

    @abstractmethod
    def __call__(self, progress: float) -> float: ...


class Constant(Schedule):
    """Stays at 1."""

    def __call__(self, progress: float) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter 2016, arXiv 1608.03983).

    Args:
        final: the factor at the end of the run, in [0, 1].
    """

    def __init__(self, *, final: float) -> None:
        self.final = _fraction("final", final)

    def __call__(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Linear(Schedule):
    """A straight line from 1 to `final`.

    Args:
        final: the factor at the end of the run, in [0, 1].
    """

    def __init__(self, *, final: float) -> None:
        self.final = _fraction("final", final)

    def __call__(self, progress: float) -> float:
        return 1 + (self.final - 1) * progress


class WarmupStableDecay(Schedule):
    """Stays at 1, then falls in a straight line over the last part (Hu et al. 2024, MiniCPM, arXiv 2404.06395).

    Args:
        final: the factor at the end of the run, in [0, 1].
        decay_fraction: the share of the run after warm-up over which it falls.
    """

    def __init__(self, *, final: float, decay_fraction: float) -> None:
        self.final, self.decay_fraction = _fraction("final", final), _fraction("decay_fraction", decay_fraction)

    def __call__(self, progress: float) -> float:
        into_decay = (progress - (1 - self.decay_fraction)) / max(self.decay_fraction, 1e-9)
        return 1 + (self.final - 1) * min(max(into_decay, 0.0), 1.0)


class Exponential(Schedule):
    """Rises exponentially from `first` to 1: for the range test of ``mmtx tune lr``."""

    def __init__(self, *, first: float) -> None:
        self.first = _fraction("first", first)

    def __call__(self, progress: float) -> float:
        return self.first ** (1 - progress)


def _fraction(key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InvalidValue(f"schedule.{key}", value, "must lie in [0, 1]")
    return value
