"""Letters and what one of several ciphers makes of them: tasks that have nothing in common."""

import random
import string
from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.specs import class_spec, text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import check_at_least, check_within

MARKS = string.digits
"""Which cipher, before the letters."""


class Ciphers(ItemSource):
    """Names: ``source`` (the mark of a task and random letters), ``target`` (the letters in its cipher), ``task``.

    Each task is a permutation of the alphabet. Samples are functions of (`split_seed`, split, index).

    Args:
        vocabulary: of both texts.
        num_tasks: ciphers, at most 10.
        length: letters of a sample.
        num_train: training samples.
        num_val: validation samples.
        num_test: test samples.
        split_seed: of letters and ciphers.
    """

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        num_tasks: int,
        length: int,
        num_train: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        check_within("num_tasks", num_tasks, 1, len(MARKS))
        check_at_least("length", length, 1)
        sizes = {"train": num_train, "val": num_val, "test": num_test}
        for split, size in sizes.items():
            check_at_least(f"num_{split}", size, 1 if split == "train" else 0)
        self.length, self.vocabulary, self.seed = length, vocabulary, split_seed
        drawn = random.Random(f"{split_seed} ciphers")
        self.ciphers = ["".join(drawn.sample(string.ascii_lowercase, 26)) for _ in range(num_tasks)]
        self.fitted.vocabulary("source", vocabulary, [MARKS, string.ascii_lowercase], marks=True, held_out=[])
        self.items = {split: range(size) for split, size in sizes.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        texts = {
            "source": text_spec(self.vocabulary, self.length + 3),
            "target": text_spec(self.vocabulary, self.length + 2),
        }
        return {**texts, "task": class_spec(tuple(MARKS[: len(self.ciphers)]))}

    def sample(self, item: int, split: str) -> Sample:
        drawn = random.Random(f"{self.seed} {split} {item}")
        task, letters = (
            drawn.randrange(len(self.ciphers)),
            "".join(drawn.choices(string.ascii_lowercase, k=self.length)),
        )
        enciphered = letters.translate(str.maketrans(string.ascii_lowercase, self.ciphers[task]))
        texts = {"source": MARKS[task] + letters, "target": enciphered}
        ids = {name: {"ids": torch.tensor(self.vocabulary.encode_marked(text))} for name, text in texts.items()}
        return {**ids, "task": {"class": torch.tensor(task)}}
