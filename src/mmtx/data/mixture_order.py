"""The order of samples of a mixture: which part, and which of its samples, at every position."""

from collections.abc import Callable, Iterator, Sequence

import numpy
import torch

from mmtx.data.sampler import Draw, Stream, hash_seed

BLOCK = 1024
"""Positions of the stream in which every part has its share, to a sample."""


class MixtureOrder:
    """An endless stream of samples of several parts, a pure function of the seed.

    In every block of `BLOCK` positions each part has its share, with the rounding error carried into the next block;
    within the block, parts are shuffled. The samples of a part come epoch after epoch, in
    its own order, with a seed of its own.

    Args:
        sizes: samples of each part; the parts are concatenated.
        weights: of each part at the beginning of the schedule and at its end, relative to their sum.
        schedule_samples: positions over which weights go linearly from the first to the last.
        seed: of the order.
        order: ``order(part, seed)``, that of a part's samples.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        weights: Sequence[tuple[float, float]],
        schedule_samples: int,
        seed: int,
        order: Callable[[int, int], Stream],
    ) -> None:
        self._sizes, self._weights, self._order = list(sizes), numpy.array(weights), order
        self._schedule_samples, self._seed = schedule_samples, seed

    def stream(self, start: int) -> Iterator[Draw]:
        """The draws from position `start` on. Earlier blocks are counted, not drawn."""
        drawn = numpy.zeros(len(self._sizes), dtype=int)
        streams: list[Iterator[Draw]] = []
        for block, counts in enumerate(self.counts()):
            skipped = min(max(start - block * BLOCK, 0), BLOCK)
            if skipped == BLOCK:
                drawn += counts
                continue
            parts = self._shuffled(block, counts)
            if not streams:
                drawn += numpy.bincount(parts[:skipped], minlength=len(drawn))
                streams = [self._stream_of(part, count) for part, count in enumerate(drawn.tolist())]
            for part in parts[skipped:].tolist():
                yield next(streams[part])

    def counts(self) -> Iterator[numpy.ndarray]:
        """Samples of each part, of one block after the other."""
        carry, block = numpy.zeros(len(self._sizes)), 0
        while True:
            target = BLOCK * self._shares(block) + carry
            counts = numpy.floor(target).clip(min=0).astype(int)
            while counts.sum() < BLOCK:
                counts[(target - counts).argmax()] += 1
            while counts.sum() > BLOCK:
                counts[numpy.where(counts > 0, target - counts, numpy.inf).argmin()] -= 1
            carry, block = target - counts, block + 1
            yield counts

    def _shares(self, block: int) -> numpy.ndarray:
        first, last = self._weights.T
        done = min(block * BLOCK / self._schedule_samples, 1.0)
        weights = (1 - done) * first + done * last
        return weights / weights.sum()

    def _shuffled(self, block: int, counts: numpy.ndarray) -> numpy.ndarray:
        """The part at every position of a block."""
        generator = torch.Generator().manual_seed(hash_seed(self._seed, -1, block))
        return numpy.repeat(numpy.arange(len(counts)), counts)[torch.randperm(BLOCK, generator=generator).numpy()]

    def _stream_of(self, part: int, start: int) -> Iterator[Draw]:
        first = sum(self._sizes[:part])
        for draw in self._order(part, hash_seed(self._seed, part)).stream(start):
            yield Draw(draw.epoch, first + draw.index)
