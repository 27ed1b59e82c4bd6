"""Episodes of any Gymnasium environment, made by a mixture of behaviour policies: trajectories without a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from mmtx.data.episodes.behaviour import PolicyMixture
from mmtx.data.episodes.gym_world import GymWorld, check_env, import_gymnasium, make_env, num_actions, state_vector
from mmtx.data.episodes.recorded import Recorded
from mmtx.data.episodes.source import Episodes, EpisodeSource, Windowing, check_generated_keys, data_seed
from mmtx.data.files.made_once import Arrays, made_once
from mmtx.process.stopping import track
from mmtx.world import World

RECIPE = 1
"""Counted up where the same settings give other episodes, so that no cache from before is taken."""


class Rollouts(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.EpisodeSource`.

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
        windowing = Windowing(context, max_steps, return_scale, val_fraction, split_seed)
        check_generated_keys(num_episodes=num_episodes, split_seed=split_seed)
        check_env(env)
        self.env, self._mixture = env, PolicyMixture(env, policies)
        super().__init__(_Recipe(env, policies, max_steps, split_seed).cached(num_episodes), windowing)
        self.world(1).close()  # which fails at once where the environment cannot be made any more

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        controller = self._mixture.controller
        return None if controller is None else (controller.random_return, controller.own_return)

    def world(self, num_episodes: int) -> World:
        return GymWorld.of(self, self.env, num_episodes)


class _Recipe:
    """How episodes are made, and where they are kept."""

    def __init__(self, env: str, policies: dict[str, float], max_steps: int, split_seed: int) -> None:
        self.env, self.policies, self.max_steps, self.split_seed = env, policies, max_steps, split_seed

    def cached(self, num_episodes: int) -> Episodes:
        """The episodes, from the cache folder or made and put there."""
        settings = [RECIPE, import_gymnasium().__version__, sorted(vars(self).items()), num_episodes]

        def read(arrays: Arrays) -> Episodes:
            ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
            ends[arrays["offsets"][1:] - 1] = True
            classes = int(arrays["num_actions"]) or None
            episodes = self._checked(arrays | {"terminations": ends}, classes)
            if len(episodes) != num_episodes:
                raise ValueError(f"it holds {len(episodes)} episodes")
            return episodes

        return made_once("rollouts", settings, lambda: _arrays(self.made(num_episodes)), read)

    def made(self, num_episodes: int) -> Episodes:
        env, mixture = make_env(self.env), PolicyMixture(self.env, self.policies)
        try:
            numbers = track(range(num_episodes), f"{self.env}, episode")
            recorded = [self._episode(env, mixture, number) for number in numbers]
            return self._checked(recorded, num_actions(env))
        finally:
            env.close()

    def _episode(self, env: Any, mixture: PolicyMixture, number: int) -> Recorded:
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

    def _checked(self, recorded: Recorded | Sequence[Recorded], classes: int | None) -> Episodes:
        return Episodes.of(recorded, where=f"data.env={self.env}", num_actions=classes, max_steps=self.max_steps)


def _arrays(episodes: Episodes) -> Arrays:
    arrays = {name: getattr(episodes, name).numpy() for name in ("observations", "actions", "rewards", "offsets")}
    return arrays | {"num_actions": numpy.array(episodes.num_actions or 0)}
