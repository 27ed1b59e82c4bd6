"""Demonstrations of BabyAI by MiniGrid's bot, generated once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from mmtx.data.episodes.babyai_level import Level
from mmtx.data.files.cache import Arrays, cached_arrays
from mmtx.errors import InvalidValue
from mmtx.process.stopping import track

RECIPE = 1  # see `cached_arrays`

ATTEMPTS = 100
"""How often an episode that the bot does not solve is redrawn."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes that the bot solved, concatenated.

    Attributes:
        cells: the view before each step.
        action: at each step.
        length: steps of each episode.
        reward: at the end of each episode; it is 0 before.
        mission: of each episode, as an index into `texts`.
        texts: the missions, each once.
        num_redrawn: episodes that the bot did not solve.
    """

    cells: UInt8[numpy.ndarray, "steps 7 7 3"]
    action: UInt8[numpy.ndarray, " steps"]
    length: Int64[numpy.ndarray, " episodes"]
    reward: Float32[numpy.ndarray, " episodes"]
    mission: Int64[numpy.ndarray, " episodes"]
    texts: Shaped[numpy.ndarray, " missions"]
    num_redrawn: Int64[numpy.ndarray, ""]

    def check(self, episodes: int) -> None:
        """Raises `ValueError` unless these are so many episodes."""
        steps = int(self.length.sum())
        same = len(self.length) == len(self.reward) == len(self.mission) == episodes
        if not same or len(self.cells) != steps or len(self.action) != steps:
            raise ValueError(f"it does not hold {episodes} episodes")


@dataclass(frozen=True)
class _Episode:
    mission: str
    cells: list[numpy.ndarray]
    actions: list[int]
    reward: float


def episode_seed(split: str, number: int, split_seed: int, attempt: int) -> int:
    """The environment's seed. No two splits have one in common, whatever the other numbers."""
    return ((split_seed * 2**32 + number) * ATTEMPTS + attempt) * 3 + ("train", "val", "test").index(split)


def _demonstration(level: Level, seed: int) -> _Episode | None:
    """The bot's episode; None if it does not solve it in time."""
    from minigrid.utils.baby_ai_bot import BabyAIBot

    environment = level.begin(seed)
    cached = _CachedView(environment)
    bot, over, reward = BabyAIBot(cached), False, 0.0
    cells: list[numpy.ndarray] = []
    actions: list[int] = []
    while not over:
        try:
            action = int(bot.replan(actions[-1] if actions else None))
        except Exception:  # where the bot fails: assertions, paths that are None, boxes that are gone
            return None
        cells.append(cached.image)
        actions.append(action)
        cached.image, reward, terminated, truncated = stepped(environment, action)
        over = terminated or truncated
    return _Episode(environment.mission, cells, actions, reward) if reward > 0 else None


def stepped(environment: Any, action: int) -> tuple[numpy.ndarray, float, bool, bool]:
    """The next view, the reward, and whether the episode was terminated and truncated."""
    observation, reward, terminated, truncated, _ = environment.step(action)
    return observation["image"], float(reward), bool(terminated), bool(truncated)


class _CachedView:
    """An environment for the bot that reuses the view of the last step, as views take most of the time."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self.image: numpy.ndarray = environment.gen_obs()["image"]

    @property
    def unwrapped(self) -> _CachedView:
        return self

    def gen_obs_grid(self) -> tuple[None, Bool[numpy.ndarray, "7 7"]]:
        """Which cells are visible: the bot uses nothing else."""
        return None, self.image[..., 0] > 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


def demonstrations(level: Level, split: str, count: int, split_seed: int) -> Demonstrations:
    """The episodes of a split, from the cache or generated."""

    def make() -> Arrays:
        numbers = track(range(count), f"{level.name}, {split}, episode")
        return vars(_concatenate([_solved(level, split, number, split_seed) for number in numbers]))

    def read(arrays: Arrays) -> Demonstrations:
        found = Demonstrations(**arrays)
        found.check(count)
        return found

    return cached_arrays("babyai", [RECIPE, version("minigrid"), level.name, split, count, split_seed], make, read)


def _solved(level: Level, split: str, number: int, split_seed: int) -> tuple[_Episode, int]:
    """An episode, and the number of unsolved ones drawn before it."""
    for attempt in range(ATTEMPTS):
        episode = _demonstration(level, episode_seed(split, number, split_seed, attempt))
        if episode is not None:
            return episode, attempt
    raise InvalidValue("level", level.name, f"is not for MiniGrid's bot: it solved none of {ATTEMPTS} episodes")


def _concatenate(solved: list[tuple[_Episode, int]]) -> Demonstrations:
    episodes = [episode for episode, _ in solved]
    texts = sorted({episode.mission for episode in episodes})
    index = {text: i for i, text in enumerate(texts)}
    return Demonstrations(
        cells=numpy.stack([view for episode in episodes for view in episode.cells]),
        action=numpy.array([action for episode in episodes for action in episode.actions], numpy.uint8),
        length=numpy.array([len(episode.actions) for episode in episodes], numpy.int64),
        reward=numpy.array([episode.reward for episode in episodes], numpy.float32),
        mission=numpy.array([index[episode.mission] for episode in episodes], numpy.int64),
        texts=numpy.array(texts),
        num_redrawn=numpy.array(sum(redrawn for _, redrawn in solved), numpy.int64),
    )
