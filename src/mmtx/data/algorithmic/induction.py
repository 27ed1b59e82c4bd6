"""Induction: what comes after an id is what came after it before (Olsson et al. 2022, arXiv 2209.11895)."""

import random
from collections.abc import Mapping

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.algorithmic.task import Task
from mmtx.errors import InvalidValue, UserError, check_at_least


class Induction(Task):
    """Name: ``text``, with ``ids`` and ``predicted``: a segment of random ids, each at most once in it, and the same
    segment again, of which all but the first id is predicted.

        7 2 9 4 | 7 2 9 4      predicted: 2, 9, 4

    What follows is known from the first occurrence alone. A length is the number of ids, and the segment is half of
    it, rounded down: in texts of an odd length one more id, which is in no segment, stands between the two.

    Args:
        num_ids: of the vocabulary.
    """

    def __init__(self, *, num_ids: int) -> None:
        check_at_least("num_ids", num_ids, 3)
        self.num_ids = num_ids

    def specs(self, longest: int) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, num_classes=self.num_ids, max_length=longest)
        return {"text": Spec({"ids": ids, "predicted": Field((None,), torch.bool, max_length=longest)})}

    def draw(self, drawn: random.Random, length: int) -> Sample:
        """Raises UserError where a length has no segment of two ids, or more than there are ids."""
        size = length // 2
        if size < 2:
            raise UserError(f"a length of {length} has no segment of two ids; the shortest is 4")
        between = length - 2 * size
        if size + between > self.num_ids:
            problem = f"is less than a text of {length} needs, whose ids each come twice"
            raise InvalidValue("task.num_ids", self.num_ids, problem, str(size + between))
        ids = drawn.sample(range(self.num_ids), size + between)
        segment = ids[:size]
        predicted = torch.arange(length) > length - size
        return {"text": {"ids": torch.tensor([*ids, *segment]), "predicted": predicted}}
