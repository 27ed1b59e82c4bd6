"""Which row belongs to training, which to validation, which to the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch

from mmtx.data.stratified_split import hold_out_fraction
from mmtx.data.tables.open_tables import SPELLINGS
from mmtx.errors import InvalidValue, check_fraction

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitKeys:
    """Shares of training rows that are held out.

    Args:
        val_fraction: of validation, where the data has none; 0: none.
        test_fraction: of the test, likewise.
        split_seed: of the choice.
    """

    val_fraction: float
    test_fraction: float
    split_seed: int

    def __post_init__(self) -> None:
        check_fraction("val_fraction", self.val_fraction)
        check_fraction("test_fraction", self.test_fraction)
        if self.val_fraction + self.test_fraction >= 1:
            problem = f"leaves no training with test_fraction={self.test_fraction}"
            raise InvalidValue("val_fraction", self.val_fraction, problem)


def split_code(cell: object) -> int:
    """The place of a split in `SPLITS`. Raises `ValueError` with a predicate."""
    split = SPELLINGS.get(str(cell).strip().lower()) if cell is not None else None
    if split is None:
        raise ValueError(f"is {cell}, and must be one of {', '.join(SPLITS)}")
    return SPLITS.index(split)


def divide(
    given: numpy.ndarray, groups: numpy.ndarray | None, classes: numpy.ndarray, keys: SplitKeys, draws: Sequence[str]
) -> Mapping[str, numpy.ndarray]:
    """The rows of each split, rising.

    Args:
        given: of each row, the place of its split in `SPLITS`.
        groups: of each row; rows of one group hold the same file, and stay together; None: each is its own.
        classes: of each row, of which each split has its share.
        keys: how much is held out of the training rows.
        draws: splits that are drawn from the training rows, as the data has none.
    """
    rows = {split: numpy.flatnonzero(given == code) for code, split in enumerate(SPLITS)}
    total = len(rows["train"]) if groups is None else len(numpy.unique(groups[rows["train"]]))
    for number, (split, key, fraction) in enumerate(
        (("test", "test_fraction", keys.test_fraction), ("val", "val_fraction", keys.val_fraction))
    ):
        if split in draws:
            kept, held = _held_out(rows["train"], groups, classes, key, fraction, total, keys.split_seed + number)
            rows["train"], rows[split] = kept, held
    return rows


def _held_out(
    rows: numpy.ndarray,
    groups: numpy.ndarray | None,
    classes: numpy.ndarray,
    key: str,
    fraction: float,
    total: int,
    seed: int,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    own = numpy.arange(len(rows)) if groups is None else groups[rows]
    _, first, inverse = numpy.unique(own, return_index=True, return_inverse=True)
    stratum = torch.from_numpy(classes[rows][first].astype(numpy.int64))
    _, held = hold_out_fraction(stratum, key, fraction, total, seed)
    is_held = numpy.isin(inverse, held.numpy())
    return rows[~is_held], rows[is_held]
