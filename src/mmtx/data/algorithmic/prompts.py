"""Prompts of inputs with answers, from which a model learns in the context."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import Source, Split
from mmtx.data.collate import collate
from mmtx.errors import check_at_least

TRAIN, VAL, TEST = range(3)


class PromptSource(Source):
    """A dataset of prompts that a program draws: names ``x``, ``y``, and outside of training ``estimates``, of which
    each field has the answers of another estimator from the examples before each step.

    Args:
        num_train: training prompts.
        num_val: validation prompts; 0: none.
        num_test: test prompts; 0: none.
    """

    def __init__(self, *, num_train: int, num_val: int, num_test: int) -> None:
        for key, size, least in (("num_train", num_train, 1), ("num_val", num_val, 0), ("num_test", num_test, 0)):
            check_at_least(key, size, least)
        self.sizes = {TRAIN: num_train, VAL: num_val, TEST: num_test}
        self._evaluated = {split: EvaluatedPrompts(self, split) for split in (VAL, TEST)}

    @abstractmethod
    def draw(self, split: int, index: int) -> Sample:
        """The names ``x`` and ``y`` of a prompt, a function of the two; all are of equal length but in training."""

    @abstractmethod
    def answers(self, prompts: Sample) -> dict[str, Tensor]:
        """Those of each estimator to all prompts, whose fields have an axis of prompts first."""

    def train(self) -> Split:
        return Prompts(self, TRAIN)

    def val(self) -> Split | None:
        return self._evaluated[VAL] if self.sizes[VAL] else None

    def test(self) -> Split | None:
        return self._evaluated[TEST] if self.sizes[TEST] else None


class Prompts:
    """A split of prompts, drawn as they are needed; a `mmtx.data.BatchSplit`.

    Args:
        source: of the prompts.
        split: `TRAIN`, `VAL` or `TEST`.
    """

    def __init__(self, source: PromptSource, split: int) -> None:
        self._source, self._split = source, split

    def __len__(self) -> int:
        return self._source.sizes[self._split]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._source.draw(self._split, index)

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        samples = [self[index] for index in indices]
        if len({len(sample["x"]["values"]) for sample in samples}) > 1:
            return collate(samples, specs, ids=list(indices))
        return _of_equal_lengths(_stacked(samples), specs, torch.tensor(indices))


class EvaluatedPrompts(Prompts):
    """A split of prompts with what estimators answer, made once for all of them."""

    @cached_property
    def _whole(self) -> Sample:
        """The fields of all samples."""
        prompts = _stacked([self._source.draw(self._split, index) for index in range(len(self))])
        return {**prompts, "estimates": self._source.answers(prompts)}

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: {key: value[index] for key, value in own.items()} for name, own in self._whole.items()}

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        ids = torch.tensor(indices)
        own = {name: {key: value[ids] for key, value in fields.items()} for name, fields in self._whole.items()}
        return _of_equal_lengths(own, specs, ids)


def _stacked(samples: Sequence[Sample]) -> Sample:
    """Samples of equal lengths as fields with an axis of samples first."""
    first = samples[0]
    return {name: {key: torch.stack([one[name][key] for one in samples]) for key in first[name]} for name in first}


def _of_equal_lengths(fields: Sample, specs: Mapping[str, Spec], ids: Int64[Tensor, " B"]) -> Batch:
    """The batch of fields without padding; other names are absent, as `collate` leaves them."""
    steps = fields["x"]["values"].shape[1]
    lengths = {name: torch.full_like(ids, steps if name in fields else 0) for name in specs}
    absent = collate([{}] * len(ids), {name: spec for name, spec in specs.items() if name not in fields})
    own = {name: fields[name] if name in fields else absent[name] for name in specs}
    return Batch(own, lengths, {name: name in fields for name in specs}, ids)
