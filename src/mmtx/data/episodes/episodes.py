"""Recorded episodes, and the standardisation of their observations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Episodes:
    """All steps of all episodes, concatenated: episode `i` is ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
        observations: before each step.
        actions: classes ``(steps,)`` int64 or numbers ``(steps, A)`` float32.
        rewards: of each step.
        offsets: start of each episode, and the end of the last.
        num_actions: number of classes; None: actions are numbers.
    """

    observations: Float[Tensor, "steps state"]
    actions: Shaped[Tensor, " steps *size"]
    rewards: Float[Tensor, " steps"]
    offsets: Int64[Tensor, " episodes_and_1"]
    num_actions: int | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Int64[Tensor, " episodes"]:
        """Steps of each."""
        return self.offsets.diff()

    @cached_property
    def times(self) -> Int64[Tensor, " steps"]:
        """Index of each step within its episode."""
        return torch.arange(len(self.rewards)) - self.offsets[:-1].repeat_interleave(self.lengths)

    @cached_property
    def left(self) -> Int64[Tensor, " steps"]:
        """Steps from each one to the end of its episode, itself included."""
        return self.lengths.repeat_interleave(self.lengths) - self.times

    @cached_property
    def returns_to_go(self) -> Float[Tensor, " steps"]:
        """The sum of rewards from each step to the end of its episode, undiscounted."""
        earned = torch.cat([self.rewards.new_zeros(1), self.rewards.cumsum(0)])
        return earned[self.offsets[1:]].repeat_interleave(self.lengths) - earned[:-1]

    @cached_property
    def returns(self) -> Float[Tensor, " episodes"]:
        return self.returns_to_go[self.offsets[:-1]]

    @cached_property
    def previous_rewards(self) -> Float[Tensor, " steps"]:
        """The reward of the step before each; 0 at the first of an episode."""
        before = self.rewards.roll(1)
        before[self.offsets[:-1]] = 0
        return before

    def steps_of(self, episodes: Int64[Tensor, " some"]) -> Int64[Tensor, " steps"]:
        """Indices of all steps of some episodes."""
        lengths = self.lengths[episodes]
        before = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return self.offsets[episodes].repeat_interleave(lengths) + torch.arange(int(lengths.sum())) - before


@dataclass(frozen=True)
class Standardise:
    """Standardises observations to mean 0 and standard deviation 1.

    Attributes:
        mean: of the training data.
        std: of the training data, plus 1e-6.
    """

    mean: Float[Tensor, " state"]
    std: Float[Tensor, " state"]

    @classmethod
    def fit(cls, observations: Float[Tensor, "steps state"]) -> Standardise:
        values = observations.double()
        return cls(values.mean(0).float(), (values.std(0, correction=0) + 1e-6).float())

    def __call__(self, observations: Float[Tensor, "*steps state"]) -> Float[Tensor, "*steps state"]:
        return (observations - self.mean) / self.std
