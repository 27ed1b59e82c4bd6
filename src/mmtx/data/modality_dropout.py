"""Modality dropout: training samples lose some of their names, so that a model learns to do without them."""

import random
from collections.abc import Mapping, Sequence

import torch

from mmtx.batch import Batch
from mmtx.data.sampler import Draw, hash_seed
from mmtx.errors import InvalidValue

STREAM = 0x6D6F64616C697479
"""Makes these draws independent of the augmentation of the same sample."""


class ModalityDropout:
    """Drops names of a sample, each with its own probability, but never all that the sample has of the set
    (Neverova et al. 2015, arXiv 1501.00102).

    Which names are dropped is a pure function of (seed, epoch, index).

    Args:
        shares: ``{name: probability}``.
        names: of the set.
        seed: of the draws.
    """

    def __init__(self, *, shares: Mapping[str, float | int], names: Sequence[str], seed: int) -> None:
        for name, share in shares.items():
            key = f"modality_dropout.{name}"
            if name not in names:
                raise InvalidValue(key, share, f"names nothing of the set [{', '.join(names)}]")
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise InvalidValue(key, share, "must be a share, in [0, 1]")
        self.shares, self.names, self.seed = dict(shares), list(names), seed

    def __call__(self, batch: Batch, draws: Sequence[Draw]) -> Batch:
        """The batch of these draws without the dropped names."""
        if not self.shares or not draws:
            return batch
        present = {name: batch.present(name).tolist() for name in self.names if name in batch}
        dropped = [
            self.dropped(draw, [name for name in present if present[name][row]]) for row, draw in enumerate(draws)
        ]
        return batch.without(
            {name: torch.tensor([name in names for names in dropped]) for name in self.shares if name in batch}
        )

    def dropped(self, draw: Draw, present: Sequence[str]) -> set[str]:
        """The names that are dropped of those that one sample has."""
        generator = random.Random(hash_seed(self.seed, STREAM, draw.epoch, draw.index))
        chance = {name: generator.random() for name in self.names}
        dropped = {name for name in present if chance[name] < self.shares.get(name, 0.0)}
        if present and dropped == set(present):
            dropped.remove(max(present, key=lambda name: chance[name] - self.shares[name]))
        return dropped
