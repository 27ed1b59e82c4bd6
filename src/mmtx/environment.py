"""The interface of environments: many episodes side by side, in which a model acts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mmtx.batch import Sample

Observation = list[Sample]
"""Of each episode at one step, ``{name: {field: tensor}}`` without an axis of time: ``state.values (S,)``."""

FIRST_SEED = {"train": 0, "val": 1_000_000_000, "test": 1_500_000_000}
"""Of the episodes of a split, in which a model acts; no dataset uses these for its own."""


@dataclass(frozen=True)
class Outcome:
    """The result of one step in every episode.

    Attributes:
        observation: the next one; of an episode that is over it means nothing.
        reward: of this step.
        over: the episode terminated or was truncated.
        success: the task was done; None where the environment does not report it.
    """

    observation: Observation
    reward: Float[Tensor, " n"]
    over: Bool[Tensor, " n"]
    success: Bool[Tensor, " n"] | None


class Environment(ABC):
    """Episodes that are stepped together. An episode is a pure function of its seed and the actions in it."""

    @property
    @abstractmethod
    def max_steps(self) -> int:
        """The number of steps after which any episode is over."""

    @abstractmethod
    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        """Begins an episode for each seed.

        Returns:
            The first observation of each, and what is constant in each (a mission); ``{}`` where nothing is.
        """

    @abstractmethod
    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        """Takes one action in each episode, in the data's form; those of episodes that are over are ignored."""

    @abstractmethod
    def frame(self, index: int) -> Float[Tensor, "3 height width"] | None:
        """A picture of one episode now, in 0..1; None where it cannot be drawn."""

    def close(self) -> None:  # noqa: B027
        """Releases what the environment holds."""


class Playable(ABC):
    """A dataset with an environment. For classes that are a `mmtx.data.Source` as well.

    Attributes:
        can_play: whether there is an environment; a file of trajectories need not name one.
        best_return: the highest return of any episode of the data: the default target return.
        mean_return: the mean return of the data's episodes, where it is known.
        return_scale: the data's returns and rewards are divided by it.
        reference_returns: of a random and of an expert policy, between which ``return_normalised`` runs from 0 to 100.
    """

    can_play: bool = True
    best_return: float
    mean_return: float | None = None
    return_scale: float
    reference_returns: tuple[float, float] | None = None

    @abstractmethod
    def environment(self, num_episodes: int) -> Environment:
        """The environment, with so many episodes side by side."""
