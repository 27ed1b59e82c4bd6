"""Which samples are held out."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor


def hold_out(
    classes: Int64[Tensor, " N"], count: int, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Splits ``0..N-1`` in two, both ascending: `count` are held out, of every class its share.

    Shares are rounded so that they add up (largest remainder), and at least one of every class is kept.

    Raises:
        ValueError: `count` would take the last sample of a class.
    """
    numbers = classes.bincount()
    spare = (numbers - 1).clamp(min=0)
    if count > int(spare.sum()):
        raise ValueError(f"cannot hold out {count} of {len(classes)} samples and keep one of every class")
    shares = numbers.double() * count / max(len(classes), 1)
    take = torch.minimum(shares.floor().long(), spare)
    by_remainder = (shares - take).argsort(descending=True, stable=True).tolist()
    while int(take.sum()) < count:
        for label in by_remainder:
            if int(take.sum()) < count and take[label] < spare[label]:
                take[label] += 1
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(classes), dtype=torch.bool)
    for label, number in enumerate(take.tolist()):
        members = (classes == label).nonzero()[:, 0]
        held[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]
