"""Held-out samples: a share of every class, files with the same content together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.errors import InvalidValue


@runtime_checkable
class OfFile(Protocol):
    """A sample of a file, which may hold others too."""

    @property
    def file(self) -> Path: ...

    @property
    def label(self) -> int | None: ...


Item = TypeVar("Item", bound=OfFile)


def hold_out_files(
    items: Sequence[Item], first: Mapping[Path, Path], key: str, fraction: float, total: int, seed: int
) -> tuple[list[Item], list[Item]]:
    """Splits items in two, kept and held out, stratified by class. Items of files with the same content stay together.

    Args:
        items: to split.
        first: of every file, the first one with the same content.
        key: of the config, that gives the fraction.
        fraction: of the total that is held out.
        total: number of distinct files.
        seed: of the choice.

    Raises:
        InvalidValue: the fraction holds none out.
    """
    if not fraction:
        return list(items), []
    files: dict[Path, int] = {}
    for item in items:
        files.setdefault(first[item.file], item.label or 0)
    distinct = list(files)
    _, index = hold_out_fraction(torch.tensor(list(files.values())), key, fraction, total, seed)
    held = {distinct[i] for i in index.tolist()}
    kept = [item for item in items if first[item.file] not in held]
    return kept, [item for item in items if first[item.file] in held]


def hold_out_fraction(
    classes: Int64[Tensor, " N"], key: str, fraction: float, total: int, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Splits ``0..N-1`` as `hold_out` does, by a fraction of the total; 0 holds none out.

    Raises:
        InvalidValue: any other fraction holds none out.
    """
    count = min(round(total * fraction), len(classes) - len(classes.unique()))
    if fraction and count < 1:
        raise InvalidValue(key, fraction, f"of {total} samples holds none out, as training keeps one of every class")
    return hold_out(classes, count, seed)


def hold_out(
    classes: Int64[Tensor, " N"], count: int, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Splits ``0..N-1`` in two, both ascending: `count` are held out, of every class in proportion.

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
