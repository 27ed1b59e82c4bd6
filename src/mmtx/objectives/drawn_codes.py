"""Codes of pictures, films and sounds that are drawn from the rest of a batch."""

import torch

from mmtx.batch import Batch
from mmtx.codes.decodes import Decodes, decodes_into
from mmtx.codes.pixels import Pictures
from mmtx.errors import UserError
from mmtx.objectives.id_head import IdHead


def vocabulary_of_codes(head: IdHead) -> Decodes:
    """That of the name that is written. Raises UserError where it is a text."""
    if not isinstance(head.vocabulary, Decodes):
        raise UserError(f"'{head.name}' is a text: the data has no codes of a codec under this name")
    return head.vocabulary


def vocabulary_of_pictures(head: IdHead) -> Decodes:
    """The same, of codes of pictures. Raises UserError where it is anything else."""
    if not decodes_into(head.vocabulary, Pictures):
        raise UserError(f"'{head.name}' is no picture: the data has no codes of pictures under this name")
    return head.vocabulary


def begun(batch: Batch, name: str, vocabulary: Decodes, count: int, device: torch.device, *, whole: bool) -> Batch:
    """The batch with the mark that begins a sample in place of what it has of the codes.

    Args:
        count: of samples, which an empty batch does not have.
        whole: each sample has the full length, and the mark stands for all of its codes.
    """
    length = vocabulary.num_tokens if whole else 1
    ids = torch.full((count, length), vocabulary.begin or 0, device=device)
    return batch.with_name(name, {"ids": ids}, torch.full_like(ids[:, 0], length), full=True)
