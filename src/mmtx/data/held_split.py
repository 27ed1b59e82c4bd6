"""Training data that lies on the device: a step takes its samples from there."""

from collections.abc import Iterator, Mapping

import torch

from mmtx.batch import Batch, Spec
from mmtx.data.base import BatchSplit, Split
from mmtx.data.sampler import Draw, TrainSampler
from mmtx.errors import InvalidValue


class HeldBatches:
    """A loader over a split that is held on a device as one batch: the micro-batches of each optimiser step, in the
    sampler's order, equal to those that would be made on the host.

    Args:
        split: all of it is read at once.
        specs: of the names to take from it.
        sampler: of the draws of a step.
        batch_size: samples of a micro-batch.
        device: which holds the split.
    """

    def __init__(
        self,
        split: BatchSplit,
        specs: Mapping[str, Spec],
        sampler: TrainSampler,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._whole = split.batch(range(len(split)), specs).to(device)
        self._sampler, self._batch_size, self._device = sampler, batch_size, device

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[Batch]]:
        size = self._batch_size
        for draws in self._sampler:
            yield [self._take(draws[start : start + size]) for start in range(0, len(draws), size)]

    def _take(self, draws: list[Draw]) -> Batch:
        index = torch.tensor([draw.index for draw in draws])
        if self._device.type == "cuda":
            index = index.pin_memory()  # or the copy would wait
        return self._whole.select(index.to(self._device, non_blocking=True))


def held(split: Split, specs: Mapping[str, Spec], packing: bool, drops: bool) -> BatchSplit:
    """A split that can be held on a device.

    Args:
        split: of the training samples.
        specs: of the names to take from it.
        packing: whether batches are to be packed.
        drops: whether samples lose names in training.

    Raises:
        InvalidValue: its samples are random, of unequal lengths, or made one by one; or batches are changed on the
            host.
    """
    ragged = [name for name, spec in specs.items() if any(field.ragged for field in spec.fields.values())]
    problem = None
    if not isinstance(split, BatchSplit):
        problem = "needs pictures in memory that nothing changes on the host; set data/augment=none if they are"
    elif ragged:
        problem = f"needs samples of one size, and {ragged[0]} has unequal lengths"
    elif packing or drops:
        key = "loader.packing" if packing else "modality_dropout"
        problem = f"cannot go with {key}, which changes batches on the host"
    if problem is not None:
        raise InvalidValue("on_device", True, problem, "false")
    assert isinstance(split, BatchSplit)
    return split
