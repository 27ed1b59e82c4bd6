"""Where a model acts: many episodes of one environment, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mmtx.batch import Sample

Observation = list[Sample]
"""What each episode sees at one step, ``{name: {field: tensor}}`` without an axis of time: ``state.values (S,)``."""


@dataclass(frozen=True)
class Outcome:
    """What came of one step in every episode.

    Attributes:
        observation: what each sees next; of an episode that is over it means nothing.
        reward: earned in this step.
        over: the episode ended, or its time is up.
        success: it was done as it should be; None where the environment does not say.
    """

    observation: Observation
    reward: Float[Tensor, " n"]
    over: Bool[Tensor, " n"]
    success: Bool[Tensor, " n"] | None


class World(ABC):
    """Episodes that are stepped together. An episode is a pure function of its seed and the actions in it."""

    @property
    @abstractmethod
    def max_steps(self) -> int:
        """Steps after which any episode is over."""

    @abstractmethod
    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        """Begins an episode for each seed.

        Returns:
            What each sees first, and what holds for the whole of each (a mission); ``{}`` where there is nothing.
        """

    @abstractmethod
    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        """One action in each episode, as the data has them; those of episodes that are over are ignored."""

    @abstractmethod
    def frame(self, index: int) -> Float[Tensor, "3 height width"] | None:
        """What a person would see of one episode now, in 0..1; None where it cannot be drawn."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what the environment holds."""


class Playable(ABC):
    """A dataset whose environment a model can act in. For classes that are a `mmtx.data.Source` as well."""

    @abstractmethod
    def world(self, num_episodes: int) -> World:
        """So many episodes side by side."""

    @property
    def can_play(self) -> bool:
        """Whether there is an environment; a file of trajectories need not name one."""
        return True

    @property
    @abstractmethod
    def best_return(self) -> float:
        """The highest return of any episode of the data: what a model is asked for where nothing else is said."""

    @property
    def mean_return(self) -> float | None:
        """The mean return of the episodes of the data, where it is known."""
        return None

    @property
    @abstractmethod
    def return_scale(self) -> float:
        """What returns and rewards are divided by in the data."""

    @property
    @abstractmethod
    def reference_returns(self) -> tuple[float, float] | None:
        """Returns of a random and of an expert policy, between which ``return_normalised`` runs from 0 to 100."""
