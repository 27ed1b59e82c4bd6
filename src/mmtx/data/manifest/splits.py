"""Which row belongs to training, which to validation, which to the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch

from mmtx.data.places import SPLITS
from mmtx.data.stratified_split import hold_out_fraction
from mmtx.data.tables.open_tables import SPELLINGS
from mmtx.data.tables.rows import Rows
from mmtx.errors import InvalidValue, check_fraction


@dataclass(frozen=True)
class SplitKeys:
    """Where the rows of each split come from.

    Args:
        path: of the training table, or of all rows.
        val_path: of the validation table; None: `val_fraction` of the training rows.
        test_path: of the test table; None: `test_fraction` of the training rows.
        val_fraction: of validation, where the data has none; 0: none.
        test_fraction: of the test, likewise.
        val_seed: of the choice of validation.
        test_seed: of the choice of the test.
        column: that tells splits; None, or one that is not there: none does.
    """

    path: str | Sequence[str]
    val_path: str | Sequence[str] | None
    test_path: str | Sequence[str] | None
    val_fraction: float
    test_fraction: float
    val_seed: int
    test_seed: int
    column: str | None = None

    def __post_init__(self) -> None:
        check_fraction("val_fraction", self.val_fraction)
        check_fraction("test_fraction", self.test_fraction)
        from_train = (self.val_fraction, self.val_path), (self.test_fraction, self.test_path)
        if sum(fraction for fraction, path in from_train if path is None) >= 1:
            problem = f"leaves no training with test_fraction={self.test_fraction}"
            raise InvalidValue("val_fraction", self.val_fraction, problem)

    def column_of(self, tables: Mapping[str, Rows], is_split: bool) -> str | None:
        """The column that tells splits; None where there is none, or the path tells them.

        Raises:
            InvalidValue: there is one beside tables of validation or test.
        """
        if self.column is None or is_split or all(self.column not in rows.columns for rows in tables.values()):
            return None
        if len(tables) > 1:
            problem = "is a column that tells splits, beside data.val_path or test_path"
            raise InvalidValue("split", self.column, problem, "null")
        return self.column


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
    shares = (("test", keys.test_fraction, keys.test_seed), ("val", keys.val_fraction, keys.val_seed))
    for split, fraction, seed in shares:
        if split in draws:
            kept, held = _held_out(rows["train"], groups, classes, f"{split}_fraction", fraction, total, seed)
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
