"""Samples that a program makes: short ones to train on, longer ones for the test."""

import random
from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.algorithmic.growing_order import GrowingOrder
from mmtx.data.algorithmic.task import Task
from mmtx.data.base import ItemSource
from mmtx.data.sampler import Stream
from mmtx.data.specs import class_spec
from mmtx.errors import InvalidValue, check_at_least


class Algorithmic(ItemSource):
    """Names: those of the task; in the test also ``length``, for slices: ``test/accuracy/length=80``.

    Training and validation have lengths from `shortest` to `longest`, all equally often, and the test has as many
    samples of each of `test_lengths`. A sample is a function of (`split_seed`, split, index), and takes no memory:
    with a large `num_train`, none comes twice in a run.

    Args:
        task: which program.
        shortest: length in training and validation.
        longest: length in training and validation.
        test_lengths: those of the test, longer ones too; empty: no test.
        num_train: training samples.
        num_val: validation samples; 0: none.
        num_test: test samples of each length.
        split_seed: of what is drawn.
        growing: training samples, the first, over which the longest length grows evenly from `shortest`: a curriculum;
            0: none.
    """

    def __init__(
        self,
        *,
        task: Task,
        shortest: int,
        longest: int,
        test_lengths: list[int],
        num_train: int,
        num_val: int,
        num_test: int,
        split_seed: int,
        growing: int = 0,  # absent in stored configs of earlier versions
    ) -> None:
        check_at_least("shortest", shortest, 1)
        if longest < shortest:
            raise InvalidValue("longest", longest, f"is less than shortest={shortest}")
        if any(length < 1 for length in test_lengths) or len(set(test_lengths)) < len(test_lengths):
            raise InvalidValue("test_lengths", test_lengths, "must be lengths of at least 1, each once")
        for key, size, least in (("train", num_train, 1), ("val", num_val, 0), ("test", num_test, 1)):
            check_at_least(f"num_{key}", size, least)
        if not 0 <= growing < num_train:
            raise InvalidValue("growing", growing, f"must be at least 0, and less than num_train={num_train}")
        self.growing = growing
        self.task, self.seed, self.test_lengths = task, split_seed, test_lengths
        self.shortest, self.longest, self.num_test = shortest, longest, num_test
        sizes = {"train": num_train, "val": num_val, "test": num_test * len(test_lengths)}
        self.items = {split: range(size) for split, size in sizes.items()}
        for length in {shortest, longest, *test_lengths}:
            task.draw(random.Random(split_seed), length)  # raises where there is none

    @property
    def specs(self) -> Mapping[str, Spec]:
        length = {"length": class_spec(tuple(map(str, self.test_lengths)))} if self.test_lengths else {}
        return {**self.task.specs(max(self.longest, *self.test_lengths, self.shortest)), **length}

    def order(self, num_samples: int, seed: int) -> Stream:
        return GrowingOrder(num_samples, self.growing, seed) if self.growing else super().order(num_samples, seed)

    def sample(self, item: int, split: str) -> Sample:
        drawn = random.Random(f"{self.seed} {split} {item}")
        if split != "test":
            longest = self.longest
            if split == "train" and item < self.growing:
                longest = self.shortest + (longest - self.shortest + 1) * item // self.growing
            return self.task.draw(drawn, drawn.randint(self.shortest, longest))
        code = item // self.num_test
        return {**self.task.draw(drawn, self.test_lengths[code]), "length": {"class": torch.tensor(code)}}
