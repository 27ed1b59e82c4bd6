"""Episodes of any Gymnasium environment, made by a mixture of behaviour policies: trajectories without a download."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy
from tqdm import tqdm

from mmtx.data.behaviour import Mixture
from mmtx.data.episodes import Episodes, EpisodeSource, Recorded, check_generated_keys, check_window_keys, data_seed
from mmtx.data.gym_world import GymWorld, check_env, import_gymnasium, make_env, num_actions, state_vector
from mmtx.data.public_file import cache_folder, write_whole
from mmtx.world import World

RECIPE = 1
"""Counted up where the same settings give other episodes, so that no cache from before is taken."""


class Rollouts(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.episodes.EpisodeSource`.

    Episode `i` is a pure function of (`split_seed`, `i`), of the environment, the policies and `max_steps`. Each draws
    one of the policies by their shares: ``random``; and where mmtx has a controller (CartPole-v1, MountainCar-v0,
    Acrobot-v1) ``expert``, which is that controller, and ``noisy``, which is the controller with a share of random
    actions that is drawn for the episode. Environments are seeded from 2**31 on, so that smaller seeds are unseen.

    Episodes are made once, some 40,000 steps a second, and kept in mmtx's cache folder (``$XDG_CACHE_HOME``, or
    ``~/.cache``).

    Args:
        env: id of a Gymnasium environment, with vectors for observations.
        policies: names, and the share of the episodes that each makes, relative to their sum.
        num_episodes: to make, those that are held out included.
        context: steps of a window at most.
        max_steps: after which an episode is cut off, if the environment does not end it before.
        return_scale: what returns and rewards are divided by.
        val_fraction: of the episodes, held out to watch training; 0: none.
        split_seed: which episodes there are, and which of them are held out.
    """

    def __init__(
        self,
        *,
        env: str,
        policies: dict[str, float],
        num_episodes: int,
        context: int,
        max_steps: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        check_window_keys(context=context, max_steps=max_steps, return_scale=return_scale, val_fraction=val_fraction)
        check_generated_keys(num_episodes=num_episodes, split_seed=split_seed)
        check_env(env)
        self.env, self._mixture = env, Mixture(env, policies)
        recipe = _Recipe(env, policies, max_steps, split_seed)
        episodes = recipe.cached(num_episodes)
        super().__init__(
            episodes=episodes,
            context=context,
            max_steps=max_steps,
            return_scale=return_scale,
            val_fraction=val_fraction,
            split_seed=split_seed,
        )

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        controller = self._mixture.controller
        return None if controller is None else (controller.random_return, controller.own_return)

    def world(self, num_episodes: int) -> World:
        return GymWorld(
            env=self.env,
            num_episodes=num_episodes,
            max_steps=self.max_steps,
            standardise=self.standardise,
            action_size=None if self.episodes.num_actions is not None else self.episodes.actions.shape[1],
            num_actions=self.episodes.num_actions,
        )


class _Recipe:
    """How episodes are made, and where they are kept."""

    def __init__(self, env: str, policies: dict[str, float], max_steps: int, split_seed: int) -> None:
        self.env, self.policies, self.max_steps, self.split_seed = env, policies, max_steps, split_seed

    def cached(self, num_episodes: int) -> Episodes:
        """The episodes, from the cache folder or made and put there."""
        file = self._file(num_episodes)
        try:
            return _read(file.read_bytes(), file, num_episodes, self.max_steps)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _say(f"{file} cannot be read ({error}); its episodes are made anew")
        episodes = self.made(num_episodes)
        try:
            write_whole(file, _written(episodes))
        except OSError as error:
            _say(f"{file} cannot be written ({error}); the next run makes its episodes anew")
        return episodes

    def made(self, num_episodes: int) -> Episodes:
        env, mixture = make_env(self.env), Mixture(self.env, self.policies)
        try:
            numbers = tqdm(range(num_episodes), unit="episode", desc=self.env, disable=None)
            recorded = [self._episode(env, mixture, number) for number in numbers]
            return Episodes.of(
                recorded, where=f"data.env={self.env}", num_actions=num_actions(env), max_steps=self.max_steps
            )
        finally:
            env.close()

    def _episode(self, env: Any, mixture: Mixture, number: int) -> Recorded:
        generator = numpy.random.default_rng([self.split_seed, number])
        policy = mixture.draw(env.action_space, generator)
        first = getattr(env.action_space, "start", 0)
        seen, _ = env.reset(seed=data_seed(self.split_seed, number))
        observations, actions, rewards = [], [], []
        for _ in range(self.max_steps):
            action = policy.action(seen)
            observations.append(state_vector(env.observation_space, seen))
            actions.append(action - first)
            seen, reward, terminated, truncated, _ = env.step(action)
            rewards.append(float(reward))
            if terminated or truncated:
                break
        return {"observations": numpy.stack(observations), "actions": numpy.array(actions), "rewards": rewards}

    def _file(self, num_episodes: int) -> Path:
        """One for everything that the episodes depend on."""
        version = import_gymnasium().__version__
        settings = json.dumps([RECIPE, version, sorted(vars(self).items()), num_episodes], sort_keys=True)
        return cache_folder() / "rollouts" / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.npz"


def _written(episodes: Episodes) -> bytes:
    stream = io.BytesIO()
    arrays = {name: getattr(episodes, name).numpy() for name in ("observations", "actions", "rewards", "offsets")}
    numpy.savez(stream, **arrays, num_actions=numpy.array(episodes.num_actions or 0))
    return stream.getvalue()


def _read(content: bytes, file: Path, num_episodes: int, max_steps: int) -> Episodes:
    """The episodes of a cache file. Raises `ValueError` where it is damaged: its parts carry checksums."""
    try:
        with numpy.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        ends = numpy.zeros(len(kept["rewards"]), dtype=bool)
        ends[kept["offsets"][1:] - 1] = True
        steps = {name: kept[name] for name in ("observations", "actions", "rewards")} | {"terminations": ends}
        classes = int(kept["num_actions"]) or None
    except (OSError, EOFError, KeyError, IndexError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from None
    episodes = Episodes.of(steps, where=str(file), num_actions=classes, max_steps=max_steps)
    if len(episodes) != num_episodes:
        raise ValueError(f"it holds {len(episodes)} episodes")
    return episodes


def _say(line: str) -> None:
    print(f"mmtx: {line}", file=sys.stderr, flush=True)
