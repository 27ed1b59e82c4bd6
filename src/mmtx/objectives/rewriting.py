"""Masked ids of a batch, written by a model."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.guided import guided, with_and_without
from mmtx.decoding.unmask import Unmasking, unmask
from mmtx.objectives.diffused_name import DiffusedName


def rewritten(
    logits: Callable[[Batch], Mapping[str, Tensor]],
    heads: Mapping[str, DiffusedName],
    batch: Batch,
    block: Int[Tensor, " N"],
    *,
    how: Unmasking,
    generator: torch.Generator,
    guidance: Mapping[str, float | int],
) -> dict[str, Int[Tensor, "B n"]]:
    """The ids of each name, with new ones where its field ``masked`` is true.

    Args:
        logits: from a batch to scores of all ids at each token of each name.
        heads: of the names.
        batch: with the field ``masked`` of each.
        block: of each column, over all names; they are written one after the other.
        how: they are written.
        generator: source of randomness.
        guidance: ``{name: scale}``, see `guided`.
    """
    scales = {name: scale for name, scale in guidance.items() if scale != 1}
    rows, given = with_and_without(batch, scales), {name: head.ids(batch) for name, head in heads.items()}
    columns = [ids.shape[1] for ids in given.values()]

    def scores(ids: Int[Tensor, "B N"], masked: Tensor) -> Float[Tensor, "B N V"]:
        several, now = (1 + len(scales), 1), rows
        for name, own, hidden in zip(heads, ids.split(columns, 1), masked.split(columns, 1), strict=True):
            values = {heads[name].field: own.repeat(several), "masked": hidden.repeat(several)}
            now = now.with_values(name, **values)
        found = _side_by_side([*logits(now).values()])
        return guided(found, scales) if scales else found

    ids = torch.cat([*given.values()], dim=1)
    masked = torch.cat([batch[name]["masked"] for name in heads], dim=1)
    new = unmask(scores, ids, masked, block, how=how, generator=generator)
    return dict(zip(heads, new.split(columns, 1), strict=True))


def _side_by_side(scores: Sequence[Float[Tensor, "B _ _"]]) -> Float[Tensor, "B N V"]:
    """Scores of several names, whose numbers of ids differ: -inf where a name has no such id."""
    most = max(each.shape[-1] for each in scores)
    return torch.cat([F.pad(each, (0, most - each.shape[-1]), value=float("-inf")) for each in scores], dim=1)
