"""A text of the set that grows."""

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer


def cache_can_grow(model: MultimodalTransformer, text: str) -> bool:
    """Whether new tokens come last in the set, and no earlier token attends to them."""
    tokenizer, names = model.tokenizer(text), model.decoded
    clocks = [model.clock_of[name] for name in names]
    comes_last = names[-1] == text and clocks.count(clocks[-1]) == 1
    return comes_last and isinstance(tokenizer, Ids) and tokenizer.causal


def with_text(batch: Batch, text: str, ids: Int[Tensor, "B n"]) -> Batch:
    """The batch with another text, of equal lengths."""
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    return batch.with_name(text, {**batch[text], "ids": ids}, lengths, full=True)
