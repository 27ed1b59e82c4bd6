"""The order of samples that are to be seen from the easy to the hard: a curriculum."""

from collections.abc import Iterator
from dataclasses import dataclass

from mmtx.data.sampler import Draw, Order


@dataclass(frozen=True)
class GrowingOrder:
    """An endless stream that begins with the first samples of a split, once, in their order; then come the others,
    epoch after epoch, shuffled. What a step is given thus follows from its number, also in a run that is resumed.

    Args:
        num_samples: of the split.
        growing: samples that come first, fewer than all.
        seed: of the order of the others.
    """

    num_samples: int
    growing: int
    seed: int

    def stream(self, start: int) -> Iterator[Draw]:
        """The draws from position `start` on."""
        for index in range(start, self.growing):
            yield Draw(0, index)
        rest = Order(self.num_samples - self.growing, self.seed)
        for draw in rest.stream(max(start - self.growing, 0)):
            yield Draw(draw.epoch, self.growing + draw.index)
