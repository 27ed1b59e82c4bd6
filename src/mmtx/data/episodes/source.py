"""Recorded episodes, and the windows of their steps that a decision transformer learns from (arXiv 2106.01345)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.base import Source, Split
from mmtx.data.episodes.recorded import Recorded, laid_out
from mmtx.data.episodes.windows import StepTable, Windows
from mmtx.data.stratified import hold_out
from mmtx.errors import InvalidValue, check_fraction, check_within
from mmtx.world import Playable, World

FIRST_DATA_SEED = 2**31
"""Environments of datasets are seeded from here on; whoever evaluates takes smaller seeds, and meets nothing again."""

MOST_EPISODES = 10_000_000


def data_seed(split_seed: int, episode: int) -> int:
    """Seed of an environment in which an episode of a dataset takes place, in ``2**31..2**32 - 1``."""
    drawn = numpy.random.SeedSequence([split_seed, episode]).generate_state(1)
    return FIRST_DATA_SEED | int(drawn[0]) % FIRST_DATA_SEED


@dataclass(frozen=True)
class Episodes:
    """All steps of all episodes end to end, episode `i` from ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
        observations: what the agent saw before each step.
        actions: what it did: classes ``(steps,)`` int64 or numbers ``(steps, A)`` float32.
        rewards: what it earned by it.
        offsets: where episodes begin and end.
        num_actions: classes of actions; None: they are numbers.
    """

    observations: Float[Tensor, "steps state"]
    actions: Shaped[Tensor, " steps *size"]
    rewards: Float[Tensor, " steps"]
    offsets: Int64[Tensor, " episodes_and_1"]
    num_actions: int | None

    @classmethod
    def of(
        cls, recorded: Recorded | Sequence[Recorded], *, where: str, num_actions: int | None, max_steps: int
    ) -> Episodes:
        """What was recorded; see `mmtx.data.episodes.recorded.laid_out`."""
        return cls(*laid_out(recorded, where=where, num_actions=num_actions, max_steps=max_steps))

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
        """What is earned from each step to the end of its episode, undiscounted."""
        earned = torch.cat([self.rewards.new_zeros(1), self.rewards.cumsum(0)])
        return earned[self.offsets[1:]].repeat_interleave(self.lengths) - earned[:-1]

    @cached_property
    def returns(self) -> Float[Tensor, " episodes"]:
        return self.returns_to_go[self.offsets[:-1]]

    @cached_property
    def previous_rewards(self) -> Float[Tensor, " steps"]:
        """What was earned by the step before each; 0 at the first of an episode."""
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
    """Brings observations to mean 0 and standard deviation 1.

    Attributes:
        mean: of the training data.
        std: of the training data, and a little more.
    """

    mean: Float[Tensor, " state"]
    std: Float[Tensor, " state"]

    @classmethod
    def to(cls, observations: Float[Tensor, "steps state"]) -> Standardise:
        values = observations.double()
        return cls(values.mean(0).float(), (values.std(0, correction=0) + 1e-6).float())

    def __call__(self, observations: Float[Tensor, "*steps state"]) -> Float[Tensor, "*steps state"]:
        return (observations - self.mean) / self.std


@dataclass(frozen=True)
class Windowing:
    """How episodes become windows: the keys that their datasets share, checked before anything is read or made.

    Args:
        context: steps of a window at most.
        max_steps: that an episode may have, here and where a model acts.
        return_scale: what returns and rewards are divided by.
        val_fraction: of the episodes, held out to watch training; 0: none.
        split_seed: which ones.

    Raises:
        InvalidValue: they do not go together.
    """

    context: int
    max_steps: int
    return_scale: float
    val_fraction: float
    split_seed: int

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InvalidValue("max_steps", self.max_steps, "must be at least 1")
        if not 1 <= self.context <= self.max_steps:
            nearest = str(min(max(self.context, 1), self.max_steps))
            raise InvalidValue("context", self.context, f"must lie in 1..{self.max_steps} (max_steps)", nearest)
        if not 0 < self.return_scale < float("inf"):
            raise InvalidValue("return_scale", self.return_scale, "must be more than 0, and finite")
        check_fraction("val_fraction", self.val_fraction)

    def parts(self, count: int) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
        """Which of so many episodes are learned from, and which are held out."""
        held = min(round(count * self.val_fraction), count - 1)
        if self.val_fraction and held < 1:
            problem = f"of {count} episodes holds none out, as training keeps one"
            raise InvalidValue("val_fraction", self.val_fraction, problem)
        return hold_out(torch.zeros(count, dtype=torch.long), held, self.split_seed)


class EpisodeSource(Source, Playable):
    """Names: ``return`` (what is still to be earned), ``reward`` (what the step before earned), ``state``, ``action``.

    A sample is a window of one episode, and every name has a position for each of its steps. In training, a window
    begins at every step of every episode and goes on for `context` steps or to the episode's end, so that episodes are
    drawn in proportion to their lengths and their steps alike. In validation, windows of held-out episodes lie end to
    end. There is no test part: the test is to act.

    Args:
        episodes: the data.
        windowing: how it becomes windows.
    """

    def __init__(self, episodes: Episodes, windowing: Windowing) -> None:
        self.episodes, self.context, self.max_steps = episodes, windowing.context, windowing.max_steps
        self._return_scale = self.learnt.setting("return", "return_scale", windowing.return_scale)
        kept, self._held = windowing.parts(len(episodes))
        self._learned = episodes.steps_of(kept)
        self.standardise = Standardise(
            **self.learnt.statistic(
                "state",
                "mean and standard deviation",
                lambda: vars(Standardise.to(episodes.observations[self._learned])),
                lambda kept: _other_size(len(kept["mean"]), episodes.observations.shape[1]),
            )
        )
        self._best_return = self.learnt.fact("return", "best", lambda: float(episodes.returns.max()))
        self._mean_return = self.learnt.fact("return", "mean", lambda: float(episodes.returns.mean()))
        self._steps = self._step_table()

    @property
    @abstractmethod
    def reference_returns(self) -> tuple[float, float] | None: ...

    @abstractmethod
    def world(self, num_episodes: int) -> World: ...

    @property
    def best_return(self) -> float:
        return self._best_return

    @property
    def mean_return(self) -> float:
        return self._mean_return

    @property
    def return_scale(self) -> float:
        return self._return_scale

    @property
    def specs(self) -> Mapping[str, Spec]:
        times = Field((None,), torch.long, num_classes=self.max_steps, max_length=self.context, rising=True)
        specs = {}
        for name, size in (("return", 1), ("reward", 1), ("state", self.episodes.observations.shape[1])):
            values = Field((None, size), torch.float32, max_length=self.context)
            specs[name] = Spec({"values": values, "times": times})
        num_actions, actions = self.episodes.num_actions, self.episodes.actions
        shape, largest = (None, *actions.shape[1:]), float(actions.abs().max())
        action = Field(shape, actions.dtype, num_classes=num_actions, max_length=self.context, largest=largest)
        specs["action"] = Spec({self._action_key: action, "times": times})
        return specs

    def train(self) -> Split:
        return Windows(self._steps, self.episodes.left, self._learned, self.context)

    def val(self) -> Split | None:
        steps = self.episodes.steps_of(self._held)
        begin = steps[self.episodes.times[steps] % self.context == 0]
        return Windows(self._steps, self.episodes.left, begin, self.context) if len(begin) else None

    def test(self) -> None:
        return None

    @property
    def _action_key(self) -> str:
        return "values" if self.episodes.num_actions is None else "class"

    def _step_table(self) -> StepTable:
        episodes = self.episodes
        fields = {
            "return": {"values": (episodes.returns_to_go / self._return_scale).float()[:, None]},
            "reward": {"values": (episodes.previous_rewards / self._return_scale).float()[:, None]},
            "state": {"values": self.standardise(episodes.observations)},
            "action": {self._action_key: episodes.actions},
        }
        return StepTable({name: {**values, "times": episodes.times} for name, values in fields.items()})


def _other_size(kept: int, size: int) -> str | None:
    return None if kept == size else f"observations of this data have {size} numbers, and those of the run {kept}"


def check_generated_keys(*, num_episodes: int, split_seed: int) -> None:
    """Checks the keys that all datasets share whose episodes are made rather than read."""
    check_within("num_episodes", num_episodes, 1, MOST_EPISODES)
    if split_seed < 0:
        raise InvalidValue("split_seed", split_seed, "must be at least 0")
