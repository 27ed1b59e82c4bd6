"""A dataset with some of its names replaced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from jaxtyping import Shaped
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import BatchSplit, Source, Split, origin_of
from mmtx.data.places import Places
from mmtx.data.sampler import Stream
from mmtx.environment import Environment, Observation, Outcome, Playable
from mmtx.errors import InvalidValue

Value = TypeVar("Value")
Rename = Callable[[Mapping[str, Value]], dict[str, Value]]

FIXED = ("return", "reward")
"""Names that acting depends on."""


def rename_source(source: Source, names: Mapping[str, str]) -> Source:
    """The same dataset, and the same environment if it has one, with some of its names replaced.

    Args:
        source: the dataset.
        names: ``{name: new name}``.

    Raises:
        InvalidValue: it has no such name, or two would be the same.
    """
    if not names:
        return source
    for old, new in names.items():
        if old not in source.specs:
            raise InvalidValue(old, new, "renames what is not there", ", ".join(source.specs))
        if new in source.specs and new not in names:
            raise InvalidValue(old, new, "is a name that the data has already")
        if isinstance(source, Playable) and old in FIXED:
            raise InvalidValue(old, new, "renames what acting depends on; it has to stay")
    if len(set(names.values())) < len(names):
        raise InvalidValue("names", dict(names), "gives one name twice")
    return RenamedPlayable(source, names) if isinstance(source, Playable) else Renamed(source, names)


class Renamed(Source):
    """See `rename_source`."""

    def __init__(self, source: Source, names: Mapping[str, str]) -> None:
        self.source, self.names = source, dict(names)

    def rename(self, by_name: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under the new names."""
        return {self.names.get(name, name): value for name, value in by_name.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return self.rename(self.source.specs)

    def train(self) -> Split:
        return self._split(self.source.train())

    def val(self) -> Split | None:
        return None if (split := self.source.val()) is None else self._split(split)

    def test(self) -> Split | None:
        return None if (split := self.source.test()) is None else self._split(split)

    def order(self, num_samples: int, seed: int) -> Stream:
        return self.source.order(num_samples, seed)

    def places(self) -> Places:
        return self.source.places()

    def _split(self, split: Split) -> Split:
        if isinstance(split, BatchSplit):
            return _BatchSplit(split, self.rename, self.source.specs)
        return _Split(split, self.rename)


class RenamedPlayable(Renamed, Playable):
    """See `rename_source`."""

    def __init__(self, source: Source, names: Mapping[str, str]) -> None:
        super().__init__(source, names)
        assert isinstance(source, Playable)
        self._make_environment, self.can_play = source.environment, source.can_play
        self.best_return, self.mean_return = source.best_return, source.mean_return
        self.return_scale, self.reference_returns = source.return_scale, source.reference_returns

    def environment(self, num_episodes: int) -> Environment:
        return _World(self._make_environment(num_episodes), self.rename)


class _Split:
    def __init__(self, split: Split, rename: Rename) -> None:
        self.split, self.rename = split, rename

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        return self.rename(self.split[index])

    def origin(self, index: int) -> str:
        return origin_of(self.split, index)


class _BatchSplit(_Split):
    split: BatchSplit

    def __init__(self, split: BatchSplit, rename: Rename, specs: Mapping[str, Spec]) -> None:
        super().__init__(split, rename)
        self.specs = specs

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        own = {name: spec for name, spec in self.specs.items() if set(self.rename({name: None})) & set(specs)}
        batch, rename = self.split.batch(indices, own), self.rename
        return replace(batch, fields=rename(batch.fields), lengths=rename(batch.lengths), full=rename(batch.full))


class _World(Environment):
    def __init__(self, environment: Environment, rename: Rename) -> None:
        self._environment, self._rename = environment, rename

    @property
    def max_steps(self) -> int:
        return self._environment.max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        observation, constants = self._environment.reset(seeds)
        return list(map(self._rename, observation)), list(map(self._rename, constants))

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        outcome = self._environment.step(actions)
        return replace(outcome, observation=list(map(self._rename, outcome.observation)))

    def frame(self, index: int) -> Shaped[Tensor, "3 height width"] | None:
        return self._environment.frame(index)

    def close(self) -> None:
        self._environment.close()
