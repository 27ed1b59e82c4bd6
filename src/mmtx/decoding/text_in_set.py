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
    """The batch with another text, of equal lengths. Its ids have the times that the batch has in their places, and
    behind those one each."""
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    fields = {**batch[text], "ids": ids}
    if "times" in fields:
        fields["times"] = _as_long(fields["times"], ids.shape[1])
    return batch.with_name(text, fields, lengths, full=True)


def times_of(batch: Batch, text: str) -> dict[str, Tensor]:
    """The field ``times`` of a text that has it, for a text that begins as it does."""
    return {key: values for key, values in batch[text].items() if key == "times"} if text in batch else {}


def _as_long(times: Int[Tensor, "B n"], length: int) -> Int[Tensor, "B length"]:
    """Rising times of so many ids, with zeros behind the last of each row, as padding has them."""
    place = torch.arange(max(length, times.shape[1]), device=times.device)
    ahead = times - place[: times.shape[1]]  # by what stands among the ids
    ahead = torch.where((times > 0) | (place[: times.shape[1]] == 0), ahead, 0).cummax(1).values
    ahead = torch.cat([ahead, ahead[:, -1:].expand(-1, len(place) - ahead.shape[1])], dim=1)
    return (place + ahead)[:, :length]
