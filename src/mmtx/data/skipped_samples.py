"""Samples that cannot be read, and are skipped rather than end the run."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import UserError

SKIPPED = -2
"""In `Batch.ids`: a row whose sample could not be read. Every name has length 0 there, and it adds to no loss."""


def count_skipped(batches: Sequence[Batch]) -> Int64[Tensor, " 2"]:
    """How many samples of some batches were skipped, and how many were requested; on the device of the batches."""
    counts = [
        torch.stack([(batch.ids == SKIPPED).sum(), (batch.ids != -1).sum()])
        for batch in batches
        if batch.ids is not None
    ]
    return torch.stack(counts).sum(0) if counts else torch.zeros(2, dtype=torch.long)


def check_skipped(count: int, of: int, max_share: float) -> None:
    """Raises `UserError` where more than a share of so many samples were skipped."""
    if count > max_share * of:
        raise UserError(
            f"{count} of {of} samples could not be read and were left out, more than "
            f"loader.max_bad_share={max_share:g}; the warnings name them: mend them, or take them out"
        )
