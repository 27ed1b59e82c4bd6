"""Which part of a text an example writes by itself."""

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.objectives.text_head import PREDICTED


def written_part(batch: Batch, text: str, texts_end: bool) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Where in each text it begins, and where it ends.

    Of a conversation the first turn that is predicted; of a text that ends, all; of a stream, what follows a quarter.
    """
    lengths, width = batch.lengths[text], batch[text]["ids"].shape[1]
    predicted = batch[text].get(PREDICTED)
    if predicted is None:
        return torch.full_like(lengths, 1 if texts_end else max(1, width // 4)), lengths
    begins = predicted.int().argmax(1).clamp(min=1)
    others = ~predicted & (torch.arange(width, device=lengths.device) >= begins[:, None])
    return begins, torch.where(others.any(1), others.int().argmax(1), lengths).minimum(lengths)
