"""Recall over a distance: pairs come first, queries last, and between them as much else as one likes."""

import random
from collections.abc import Mapping

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.algorithmic.task import Task
from mmtx.errors import InvalidValue, UserError, check_at_least


class Recall(Task):
    """Name: ``text``, with ``ids`` and ``predicted``: pairs of a key and a value, ids without meaning, and all keys
    once more in another order, at each of which its value is predicted.

        k1 v1 k2 v2 | x x x x x x x x | k2 v2 k1 v1      predicted: v2, v1

    Ids are numbers: keys in the first third of them, values in the second, each once among the pairs, and the others in
    the last. A value stands behind the query that it answers. A length is the number of ids: the longer a text, the
    longer its pairs have to be kept, however many they are.

    Args:
        num_ids: of the vocabulary.
        num_pairs: of a text of any length.
        marked: pairs stand anywhere before the queries, between two marks, which are the last two ids:

            x x x [ k1 v1 k2 v2 ] x x x | k2 v2 k1 v1
    """

    def __init__(self, *, num_ids: int, num_pairs: int, marked: bool = False) -> None:
        check_at_least("num_pairs", num_pairs, 1)
        third = num_ids // 3
        if third < num_pairs:
            problem = f"has {third} keys, fewer than num_pairs={num_pairs}"
            raise InvalidValue("num_ids", num_ids, problem, str(3 * num_pairs))
        self.num_ids, self.num_pairs = num_ids, num_pairs
        self.marks = [num_ids - 2, num_ids - 1] if marked else []
        self.keys, self.values = range(third), range(third, 2 * third)
        self.others = range(2 * third, num_ids - len(self.marks))
        if not self.others:
            raise InvalidValue("num_ids", num_ids, "leaves no id for what stands between", str(num_ids + 3))

    def specs(self, longest: int) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, num_classes=self.num_ids, max_length=longest)
        return {"text": Spec({"ids": ids, "predicted": Field((None,), torch.bool, max_length=longest)})}

    def draw(self, drawn: random.Random, length: int) -> Sample:
        """Raises UserError where pairs and queries are longer than the text."""
        size = 2 * self.num_pairs
        num_others = length - 2 * size - len(self.marks)
        if num_others < 0:
            problem = f"is less than pairs and queries take, with task.num_pairs={self.num_pairs}"
            raise UserError(f"a length of {length} {problem}; the shortest is {length - num_others}")
        keys, values = drawn.sample(self.keys, self.num_pairs), drawn.sample(self.values, self.num_pairs)
        pairs = [*zip(keys, values, strict=True)]
        others = drawn.choices(self.others, k=num_others)
        queries = drawn.sample(pairs, self.num_pairs)
        before, first, last = 0, self.marks[:1], self.marks[1:]
        if self.marks:
            before = drawn.randint(0, num_others)
        noted = [*first, *(number for pair in pairs for number in pair), *last]
        ids = others[:before] + noted + others[before:] + [number for pair in queries for number in pair]
        places = torch.arange(length)
        predicted = (places >= length - size) & ((length - places) % 2 == 1)
        return {"text": {"ids": torch.tensor(ids), "predicted": predicted}}
