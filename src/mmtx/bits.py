"""Bits per dimension of the pictures of a split, by a learner that gives their density."""

import math
from collections.abc import Iterator

import torch

from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.decoding.flow import Integration
from mmtx.errors import UserError, check_at_least, check_within
from mmtx.learner import Learner
from mmtx.objectives.flow import Flow
from mmtx.objectives.grey_levels import bits_per_dim
from mmtx.process.stopping import track

SEED = 0
"""Of the numbers that pixels are spread to: the same every time."""
STEPS = Integration(num_steps=20)


def bits_of_pictures(
    learner: Learner,
    data: DataModule,
    split: str,
    *,
    levels: int,
    samples: int = 100,
    integration: Integration = STEPS,
) -> dict[str, float]:
    """``bits_per_dim``, the mean over the first samples of a split of the bound that `bits_per_dim` computes;
    ``bits_per_dim_se``, its standard error; ``bits_of``, how many samples it is of.

    Args:
        learner: in eval mode, on the device to compute on.
        data: with the pictures.
        split: of them.
        levels: grey levels of a pixel: 17 of scikit-learn's digits, 256 of bytes
        samples: the first so many
        integration: of the flow; its fields are options.

    Raises:
        UserError: there is no flow of pictures, or no split; an option cannot be.
    """
    check_within("levels", levels, 2, 256)
    check_at_least("samples", samples, 2)
    flow = next((each for each in map(learner.objective, learner.objectives) if isinstance(each, Flow)), None)
    if flow is None:
        raise UserError(f"no objective of this run gives densities (flow): it has {', '.join(learner.objectives)}")
    device = next(learner.parameters()).device
    generator, found, count = torch.Generator(device).manual_seed(SEED), [], 0
    for batch in _batches(data, split):
        own = batch.to(device).select(slice(0, samples - count))
        own = own.select(own.present(flow.reads[0]).nonzero()[:, 0])
        bits = bits_per_dim(flow, learner.model, own, levels=levels, generator=generator, how=integration)
        found.append(bits.cpu())
        count += len(bits)
        if count >= samples:
            break
    if count < 2:
        raise UserError(f"bits need at least 2 pictures, and split={split} has {count}")
    every = torch.cat(found)
    deviation = float(every.std()) / math.sqrt(count)
    return {"bits_per_dim": float(every.mean()), "bits_per_dim_se": deviation, "bits_of": float(count)}


def _batches(data: DataModule, split: str) -> Iterator[Batch]:
    for loader in data.eval_loaders(split, rank=0, num_ranks=1).values():
        for batches in track(loader, f"bits of {split}, batch"):
            yield from batches
