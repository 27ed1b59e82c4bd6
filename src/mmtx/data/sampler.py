"""The order of samples: a pure function of (seed, epoch, index)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of one epoch."""

    epoch: int
    index: int


def hash_seed(*numbers: int) -> int:
    """A 63-bit hash of integers (splitmix64's finaliser): the seed of a generator."""
    state = 0
    for number in numbers:
        state = (state ^ (number & (2**64 - 1))) + 0x9E3779B97F4A7C15 & (2**64 - 1)
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state = (state ^ state >> 27) * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


@runtime_checkable
class Stream(Protocol):
    """An endless stream of samples, a pure function of a seed: the same for every number of ranks and workers."""

    def stream(self, start: int) -> Iterator[Draw]:
        """The draws from position `start` on."""
        ...


@dataclass(frozen=True)
class Order:
    """An endless stream of samples: epoch after epoch, each in its own order, nothing dropped between.

    The stream is the same for every number of ranks and workers.
    """

    num_samples: int
    seed: int

    def draws(self, start: int, stop: int) -> Iterator[Draw]:
        """Samples `start` to `stop` of the stream."""
        for epoch in range(start // self.num_samples, (stop - 1) // self.num_samples + 1):
            first = epoch * self.num_samples
            within = slice(max(start - first, 0), min(stop - first, self.num_samples))
            for index in self.permutation(epoch)[within].tolist():
                yield Draw(epoch, index)

    def stream(self, start: int) -> Iterator[Draw]:
        """The draws from position `start` on, an epoch at a time."""
        while True:
            stop = (start // self.num_samples + 1) * self.num_samples
            yield from self.draws(start, stop)
            start = stop

    def permutation(self, epoch: int) -> torch.Tensor:
        return torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(hash_seed(self.seed, epoch)))


class TrainSampler(Sampler[list[Draw]]):
    """For each optimiser step, the samples of one rank.

    Global step s takes samples ``s·G`` to ``(s+1)·G`` of the stream, G being the samples of all ranks and accumulated
    batches; micro-batch m of rank r is the block ``m·ranks + r`` of it, so one process that accumulates over all
    blocks sees the same.

    Args:
        order: the stream.
        num_steps: optimiser steps of the run.
        batch_size: samples of one rank's micro-batch.
        accumulate: micro-batches of a step.
        rank: of this process.
        num_ranks: of all.
        first_step: the step at which a resumed run continues.
    """

    def __init__(
        self,
        order: Stream,
        *,
        num_steps: int,
        batch_size: int,
        accumulate: int,
        rank: int,
        num_ranks: int,
        first_step: int = 0,
    ) -> None:
        self.order, self.num_steps, self.first_step = order, num_steps, first_step
        self.batch_size, self.accumulate, self.rank, self.num_ranks = batch_size, accumulate, rank, num_ranks

    def __len__(self) -> int:
        return self.num_steps - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        samples_per_step = self.batch_size * self.accumulate * self.num_ranks
        stream = self.order.stream(self.first_step * samples_per_step)
        for _ in range(self.first_step, self.num_steps):
            step = [next(stream) for _ in range(samples_per_step)]
            blocks = [step[i : i + self.batch_size] for i in range(0, samples_per_step, self.batch_size)]
            yield [draw for block in blocks[self.rank :: self.num_ranks] for draw in block]


class EvalSampler(Sampler[list[Draw]]):
    """Every sample once, in order, in blocks of `batch_size` for each rank in turn; ranks that run out get empty lists,
    so that all have as many batches.

    Args:
        num_samples: of the split.
        batch_size: of each rank.
        rank: of this process.
        num_ranks: of all.
        first_batch: of this rank; those before it are left out.
    """

    def __init__(self, num_samples: int, *, batch_size: int, rank: int, num_ranks: int, first_batch: int = 0) -> None:
        self.num_samples, self.batch_size, self.rank, self.num_ranks = num_samples, batch_size, rank, num_ranks
        self.first_batch = first_batch

    def __len__(self) -> int:
        return max(0, self._all - self.first_batch)

    @property
    def _all(self) -> int:
        return -(-self.num_samples // (self.batch_size * self.num_ranks))

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in range(self.first_batch, self._all):
            start = (batch * self.num_ranks + self.rank) * self.batch_size
            yield [Draw(0, i) for i in range(start, min(start + self.batch_size, self.num_samples))]
