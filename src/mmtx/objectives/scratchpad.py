"""Texts that begin with scratch: ids that are trained on as any others, of which no metric is."""

from collections.abc import Collection, Sequence
from itertools import takewhile

import torch
from jaxtyping import Bool
from torch import Tensor

from mmtx.batch import Batch, Spec

SCORED = "scored"
"""The field of a text that marks the ids of the answer; of the others, scratch, there are no metrics."""


def has_scratch(spec: Spec) -> bool:
    """Whether texts have scratch before what is scored."""
    return SCORED in spec.fields


def answer_of(truth: Sequence[int], scored: Sequence[bool], ends: Collection[int]) -> list[int]:
    """The ids of a text that are scored, without what ends it."""
    answer = (number for number, counts in zip(truth, scored, strict=True) if counts)
    return [*takewhile(lambda number: number not in ends, answer)]


def ends_with(written: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether a text ends with an answer, whatever stands before. An answer begins with a mark that occurs nowhere
    else: so it is the whole answer of the text."""
    return list(written[len(written) - len(answer) :]) == list(answer)


def scored_of(batch: Batch, text: str) -> Bool[Tensor, "B n"]:
    """Which ids of a text are scored; without scratch all of them."""
    scored = batch[text].get(SCORED)
    return torch.ones_like(batch[text]["ids"], dtype=torch.bool) if scored is None else scored
