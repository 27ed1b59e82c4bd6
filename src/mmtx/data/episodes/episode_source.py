"""Datasets of episodes, as windows of steps for a decision transformer (arXiv 2106.01345)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.base import Source, Split
from mmtx.data.episodes.episodes import Episodes, Standardise
from mmtx.data.episodes.windows import StepTable, Windows
from mmtx.data.stratified_split import hold_out
from mmtx.environment import Playable
from mmtx.errors import InvalidValue, check_at_least, check_fraction, check_within

FIRST_DATA_SEED = 2**31
"""Environments of datasets are seeded from here on, those of evaluation below, so that no episode is in both."""

MOST_EPISODES = 10_000_000


def data_seed(split_seed: int, episode: int) -> int:
    """Seed of an environment in which an episode of a dataset takes place, in ``2**31..2**32 - 1``."""
    drawn = numpy.random.SeedSequence([split_seed, episode]).generate_state(1)
    return FIRST_DATA_SEED | int(drawn[0]) % FIRST_DATA_SEED


@dataclass(frozen=True)
class Windowing:
    """How episodes are cut into windows: the keys that all datasets of episodes share, checked before anything is read.

    Args:
        context: most steps of a window.
        max_steps: of an episode, here and where a model acts.
        return_scale: divides returns and rewards.
        val_fraction: validation share of the episodes; 0: none.
        split_seed: of the choice.

    Raises:
        InvalidValue: a key is outside its limits.
    """

    context: int
    max_steps: int
    return_scale: float
    val_fraction: float
    split_seed: int

    def __post_init__(self) -> None:
        check_at_least("max_steps", self.max_steps, 1)
        if not 1 <= self.context <= self.max_steps:
            nearest = str(min(max(self.context, 1), self.max_steps))
            raise InvalidValue("context", self.context, f"must lie in 1..{self.max_steps} (max_steps)", nearest)
        if not 0 < self.return_scale < float("inf"):
            raise InvalidValue("return_scale", self.return_scale, "must be more than 0, and finite")
        check_fraction("val_fraction", self.val_fraction)

    def split(self, count: int) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
        """The indices of training and of validation episodes."""
        held = min(round(count * self.val_fraction), count - 1)
        if self.val_fraction and held < 1:
            problem = f"of {count} episodes holds none out, as training keeps one"
            raise InvalidValue("val_fraction", self.val_fraction, problem)
        return hold_out(torch.zeros(count, dtype=torch.long), held, self.split_seed)


class EpisodeSource(Source, Playable):
    """Names: ``return`` (the return-to-go), ``reward`` (of the step before), ``state``, ``action``.

    A sample is a window of one episode, and every name has a position for each of its steps. In training, a window
    starts at every step of every episode and has `context` steps, or those to the episode's end, so that every step is
    drawn equally often. In validation, windows of an episode do not overlap. There is no test split: models are tested
    by acting.

    Args:
        episodes: the data.
        windowing: how they are cut into windows.
    """

    def __init__(self, episodes: Episodes, windowing: Windowing) -> None:
        self.episodes, self.context, self.max_steps = episodes, windowing.context, windowing.max_steps
        self.return_scale = self.fitted.setting("return", "return_scale", windowing.return_scale)
        train, self._val_episodes = windowing.split(len(episodes))
        self._train_steps = episodes.steps_of(train)
        self.standardise = Standardise(
            **self.fitted.statistic(
                "state",
                "mean and standard deviation",
                lambda: vars(Standardise.fit(episodes.observations[self._train_steps])),
                lambda saved: _other_size(len(saved["mean"]), episodes.observations.shape[1]),
            )
        )
        self.best_return = self.fitted.fact("return", "best", lambda: float(episodes.returns.max()))
        self.mean_return: float = self.fitted.fact("return", "mean", lambda: float(episodes.returns.mean()))
        self._steps = self._step_table()

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
        return Windows(self._steps, self.episodes.left, self._train_steps, self.context)

    def val(self) -> Split | None:
        steps = self.episodes.steps_of(self._val_episodes)
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
            "return": {"values": (episodes.returns_to_go / self.return_scale).float()[:, None]},
            "reward": {"values": (episodes.previous_rewards / self.return_scale).float()[:, None]},
            "state": {"values": self.standardise(episodes.observations)},
            "action": {self._action_key: episodes.actions},
        }
        return StepTable({name: {**values, "times": episodes.times} for name, values in fields.items()})


def _other_size(saved: int, size: int) -> str | None:
    return None if saved == size else f"observations of this data have {size} numbers, and those of the run {saved}"


def check_generated_keys(*, num_episodes: int, split_seed: int) -> None:
    """Checks the keys of all datasets whose episodes are generated."""
    check_within("num_episodes", num_episodes, 1, MOST_EPISODES)
    check_at_least("split_seed", split_seed, 0)
