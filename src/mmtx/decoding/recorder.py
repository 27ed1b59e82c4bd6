"""Every step of the episodes that a model plays: what was observed, done and earned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.environment import Environment, Observation, Outcome


@dataclass(frozen=True)
class Played:
    """Episodes side by side, each from its first step on; what stands behind its last one means nothing.

    Attributes:
        observed: ``{name: {field: (n, T, ...)}}`` before each step.
        constants: of each episode, what holds for all its steps.
        actions: in the data's form.
        rewards: of each step; 0 behind the last one.
        lengths: steps of each episode.
    """

    observed: Mapping[str, Mapping[str, Shaped[Tensor, "n T ..."]]]
    constants: Sequence[Sample]
    actions: Shaped[Tensor, "n T ..."]
    rewards: Float[Tensor, "n T"]
    lengths: Int[Tensor, " n"]


class Recorder(Environment):
    """Another environment, of which everything is kept from the last reset on.

    Args:
        environment: that is recorded.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @property
    def max_steps(self) -> int:
        return self._environment.max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self._observed, self._constants = self._environment.reset(seeds)
        self._steps: list[tuple[Observation, Tensor, Outcome]] = []
        return self._observed, self._constants

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        outcome = self._environment.step(actions)
        self._steps.append((self._observed, actions, outcome))
        self._observed = outcome.observation
        return outcome

    def frame(self, index: int) -> Float[Tensor, "3 height width"] | None:
        return self._environment.frame(index)

    def close(self) -> None:
        self._environment.close()

    @property
    def played(self) -> Played:
        """All steps since the reset."""
        observations, actions, outcomes = zip(*self._steps, strict=True)
        acting = self._acting([outcome.over for outcome in outcomes])
        observed = {
            name: {key: torch.stack([_stacked(each, name, key) for each in observations], 1) for key in fields}
            for name, fields in observations[0][0].items()
        }
        rewards = torch.stack([outcome.reward for outcome in outcomes], 1) * acting
        return Played(observed, self._constants, torch.stack(actions, 1), rewards, acting.sum(1))

    @staticmethod
    def _acting(over: Sequence[Bool[Tensor, " n"]]) -> Bool[Tensor, "n T"]:
        """Whether an episode had not been over before a step."""
        before = [torch.zeros_like(over[0]), *over[:-1]]
        return ~torch.stack(before, 1)


def _stacked(observation: Observation, name: str, key: str) -> Shaped[Tensor, "n ..."]:
    return torch.stack([one[name][key] for one in observation])
