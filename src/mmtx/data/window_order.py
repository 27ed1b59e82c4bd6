"""The order of samples that lie in blocks of a file, of which few are read at a time."""

from collections.abc import Iterator, Sequence

import torch

from mmtx.data.sampler import Draw, hash_seed


class WindowOrder:
    """An endless stream of samples, epoch after epoch, a pure function of (seed, epoch, index).

    In each epoch, blocks are shuffled and cut into windows, and the samples of each window are shuffled: whoever reads
    the stream needs the blocks of one window at a time, and of the next at its end.

        blocks   0 1 2 3 4 5   shuffled  4 0 | 3 5 | 1 2   samples  of 4 and 0, shuffled | of 3 and 5 | of 1 and 2

    Args:
        sizes: samples of each block, which stand one after the other.
        costs: of each block.
        limit: of the costs of a window; a block of more is a window by itself.
        seed: of the order.
    """

    def __init__(self, *, sizes: Sequence[int], costs: Sequence[int], limit: int, seed: int) -> None:
        self._sizes, self._costs = torch.tensor(sizes), list(costs)
        self._starts = self._sizes.cumsum(0) - self._sizes
        self._limit, self._seed = limit, seed
        self._total = int(self._sizes.sum())

    def stream(self, start: int) -> Iterator[Draw]:
        """The draws from position `start` on. What lies before is counted, not drawn."""
        epoch, skipped = divmod(start, self._total)
        while True:
            for number, window in enumerate(self._windows(epoch)):
                size = int(self._sizes[window].sum())
                if skipped >= size:
                    skipped -= size
                    continue
                for index in self._shuffled(epoch, number, window)[skipped:].tolist():
                    yield Draw(epoch, index)
                skipped = 0
            epoch += 1

    def _windows(self, epoch: int) -> Iterator[list[int]]:
        window: list[int] = []
        cost = 0
        for block in self._permutation(len(self._sizes), epoch, -1).tolist():
            if window and cost + self._costs[block] > self._limit:
                yield window
                window, cost = [], 0
            window.append(block)
            cost += self._costs[block]
        yield window

    def _shuffled(self, epoch: int, number: int, window: list[int]) -> torch.Tensor:
        samples = torch.cat([self._starts[block] + torch.arange(int(self._sizes[block])) for block in window])
        return samples[self._permutation(len(samples), epoch, number)]

    def _permutation(self, size: int, epoch: int, number: int) -> torch.Tensor:
        return torch.randperm(size, generator=torch.Generator().manual_seed(hash_seed(self._seed, epoch, number)))
