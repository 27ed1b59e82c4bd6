"""Multi-query associative recall (Arora et al. 2023, Zoology, arXiv 2312.04927)."""

import math
import random
from collections.abc import Mapping

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.algorithmic.task import Task
from mmtx.errors import InvalidValue, UserError, check_at_least

GAP_POWER = 0.01
"""Exponent of the power law by which queries follow their pairs: small gaps are the likelier."""
FILLER = 0


class MQAR(Task):
    """Name: ``text``, with ``ids`` and ``predicted``: pairs of a key and a value, then each key once more, at which its
    value is predicted.

        k1 v1 k2 v2 ... | 0 0 k2 v2 0 0 0 0 k1 v1 0 0 ...      predicted: v2, v1

    Ids are numbers: keys from 1 on in the lower half of them, values in the upper half, each once in a text. Places of
    two ids follow the pairs, and place g, counted from 1, has a query by the power law g^(a - 1), a = 0.01; the others
    are 0. As in any text, a value stands behind the query that it answers. A length is the number of ids.

    Args:
        num_ids: of the vocabulary, 0 included.
        tokens_per_pair: a text of n ids has n divided by this, rounded down, pairs.
    """

    def __init__(self, *, num_ids: int, tokens_per_pair: int) -> None:
        check_at_least("num_ids", num_ids, 4)
        check_at_least("tokens_per_pair", tokens_per_pair, 4)
        self.num_ids, self.tokens_per_pair = num_ids, tokens_per_pair
        self.keys, self.values = range(1, num_ids // 2), range(num_ids // 2, num_ids)

    def specs(self, longest: int) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, num_classes=self.num_ids, max_length=longest)
        return {"text": Spec({"ids": ids, "predicted": Field((None,), torch.bool, max_length=longest)})}

    def draw(self, drawn: random.Random, length: int) -> Sample:
        """Raises UserError where a length has no pair, or more than there are keys."""
        num_pairs = length // self.tokens_per_pair
        if num_pairs < 1:
            raise UserError(f"a length of {length} has no pair, with task.tokens_per_pair={self.tokens_per_pair}")
        if num_pairs > len(self.keys):
            problem = f"has {len(self.keys)} keys, and a length of {length} has {num_pairs} pairs"
            raise InvalidValue("task.num_ids", self.num_ids, problem, str(2 * num_pairs + 2))
        pairs = [*zip(drawn.sample(self.keys, num_pairs), drawn.sample(self.values, num_pairs), strict=True)]
        num_places = length // 2 - num_pairs
        ids, predicted = [FILLER] * length, [False] * length
        for place, pair in enumerate(pairs):
            ids[2 * place : 2 * place + 2] = pair
        for place, pair in zip(self._places(drawn, num_places, num_pairs), pairs, strict=True):
            first = 2 * (num_pairs + place)
            ids[first : first + 2] = pair
            predicted[first + 1] = True
        return {"text": {"ids": torch.tensor(ids), "predicted": torch.tensor(predicted)}}

    @staticmethod
    def _places(drawn: random.Random, num_places: int, count: int) -> list[int]:
        """Some places, each once, drawn one after the other by the power law (the largest of their logarithms plus
        Gumbel noise: Yellott 1977), in the order in which they are drawn."""
        keys = [
            (GAP_POWER - 1) * math.log(gap) - math.log(-math.log(drawn.random())) for gap in range(1, num_places + 1)
        ]
        return sorted(range(num_places), key=lambda place: -keys[place])[:count]
