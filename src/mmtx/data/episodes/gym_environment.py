"""Environments of Gymnasium, and an environment of many copies of one."""

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.episodes.episode_source import EpisodeSource
from mmtx.data.episodes.episodes import Episodes
from mmtx.data.episodes.recorded_steps import LARGEST_STATE
from mmtx.environment import Environment, Observation, Outcome
from mmtx.errors import InvalidValue, UserError, nearest
from mmtx.process.stopping import check, track

MISSING = "environments are made by Gymnasium, which is not installed (package gymnasium): pip install 'mmtx[rl]'"

PACKAGES = {"gym_pusht": "pip install 'mmtx[pusht]'"}
"""Namespaces of environments that are registered when their package is imported, and how that is installed."""

SUCCESS_KEYS = ("is_success", "success")
"""Keys of ``info`` by which environments report success."""


def import_gymnasium() -> Any:
    """Imports the package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gymnasium
    except ImportError:
        raise UserError(MISSING) from None
    return gymnasium


def check_env(env: str) -> None:
    """Checks that an environment is registered, without making it.

    Raises:
        UserError: Gymnasium is not installed, or has no such environment.
    """
    gymnasium = import_gymnasium()
    _register(env.partition("/")[0])
    if ":" in env:
        raise InvalidValue("env", env, "names a module to import; give the id of an environment that is registered")
    try:
        gymnasium.spec(env)
    except gymnasium.error.Error:
        raise InvalidValue("env", env, "is not an environment of Gymnasium", nearest(env, gymnasium.registry)) from None


def _register(namespace: str) -> None:
    """Imports the package whose environments have this namespace, where Gymnasium does not find them by itself."""
    if namespace not in PACKAGES:
        return
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # which would be part of what a command prints
    try:
        importlib.import_module(namespace)
    except ImportError as error:
        raise UserError(f"environments of {namespace} need its package ({error}): {PACKAGES[namespace]}") from None


def make_env(env: str, options: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Makes a Gymnasium environment, with frames if it can render them.

    Args:
        env: its id.
        options: of its own.

    Raises:
        UserError: it cannot be made, or has other spaces than vectors and classes.
    """
    check_env(env)
    gymnasium = import_gymnasium()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about newer versions and render modes
        try:
            try:
                made = gymnasium.make(env, render_mode="rgb_array", disable_env_checker=True, **options)
            except (TypeError, gymnasium.error.ResetNeeded, gymnasium.error.UnsupportedMode):
                made = gymnasium.make(env, disable_env_checker=True, **options)
        except Exception as error:  # whatever the environment's own code raises
            raise InvalidValue("env", env, f"cannot be made: {error or type(error).__name__}") from None
    action, state = made.action_space, made.observation_space
    spaces = gymnasium.spaces
    if not (isinstance(action, spaces.Discrete) or (isinstance(action, spaces.Box) and action.dtype.kind == "f")):
        raise InvalidValue("env", env, f"has actions that are neither classes nor numbers: {action}")
    if not 1 <= state_size(state) <= LARGEST_STATE:
        raise InvalidValue("env", env, f"has observations that are no vectors of 1..{LARGEST_STATE} numbers: {state}")
    return made


def num_actions(env: Any) -> int | None:
    """Number of classes of its actions; None where they are numbers."""
    return int(env.action_space.n) if hasattr(env.action_space, "n") else None


def state_size(space: Any) -> int:
    """Size of an observation as a vector; 0 where it is none."""
    spaces = import_gymnasium().spaces
    if isinstance(space, spaces.Dict):
        sizes = [state_size(part) for part in space.spaces.values()]
        return sum(sizes) if all(sizes) else 0
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(numpy.prod(space.shape)) if isinstance(space, spaces.Box) else 0


def state_vector(space: Any, observation: Any) -> Any:
    """An observation as a vector ``(S,)`` float32: dictionaries in the order of their keys, classes one-hot."""
    if isinstance(observation, Mapping):
        parts = [state_vector(space[key], observation[key]) for key in sorted(observation)]
        return numpy.concatenate(parts)
    if hasattr(space, "n"):
        return numpy.eye(int(space.n), dtype=numpy.float32)[int(observation) - int(space.start)]
    return numpy.asarray(observation, dtype=numpy.float32).reshape(-1)


class GymEnvironment(Environment):
    """Copies of one Gymnasium environment.

    Args:
        data: that a model was trained on, which gives the length of an episode and how observations are standardised.
        env: its id.
        num_episodes: copies.
        options: with which each is made.

    Raises:
        UserError: the environment cannot be made, or its spaces are not those of the data.
    """

    def __init__(
        self, data: EpisodeSource, env: str, num_episodes: int, options: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._envs = [make_env(env, options) for _ in range(num_episodes)]
        self._max_steps, self._standardise = data.max_steps, data.standardise
        self._over = torch.ones(0, dtype=torch.bool)
        if self._envs:
            _check_as_data(self._envs[0], env, data.episodes)

    @property
    def max_steps(self) -> int:
        return self._max_steps

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        if len(seeds) > len(self._envs):
            raise ValueError(f"{len(seeds)} seeds for {len(self._envs)} environments")
        self._steps, self._over = 0, torch.zeros(len(seeds), dtype=torch.bool)
        self._success: list[bool | None] = [None] * len(seeds)
        begun = track(zip(self._envs, seeds, strict=False), "beginning episodes", len(seeds))
        self._seen = [self._vector(env, env.reset(seed=int(seed))[0]) for env, seed in begun]
        return self._observation(), [{} for _ in seeds]

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        self._steps += 1
        reward = torch.zeros(len(self._over))
        for index in (~self._over).nonzero()[:, 0].tolist():
            check()
            env = self._envs[index]
            seen, reward[index], terminated, truncated, info = env.step(_action(env.action_space, actions[index]))
            self._seen[index] = self._vector(env, seen)
            self._over[index] = bool(terminated or truncated or self._steps >= self._max_steps)
            for key in SUCCESS_KEYS:
                if key in info:
                    self._success[index] = bool(info[key])
        return Outcome(self._observation(), reward, self._over.clone(), self._successes())

    def frame(self, index: int) -> Float[Tensor, "3 height width"] | None:
        before = os.environ.get("SDL_VIDEODRIVER")
        os.environ["SDL_VIDEODRIVER"] = "dummy"  # pygame draws without a display
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = numpy.asarray(self._envs[index].render())
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != numpy.uint8:
                return None
            return torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255
        except Exception:  # whatever the environment's own code raises without a package or a display
            return None
        finally:
            if before is None:
                del os.environ["SDL_VIDEODRIVER"]
            else:
                os.environ["SDL_VIDEODRIVER"] = before

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _vector(self, env: Any, seen: Any) -> Float[Tensor, " state"]:
        return torch.from_numpy(state_vector(env.observation_space, seen).copy())

    def _observation(self) -> Observation:
        return [{"state": {"values": self._standardise(seen)}} for seen in self._seen]

    def _successes(self) -> Bool[Tensor, " n"] | None:
        if all(success is None for success in self._success):
            return None
        return torch.tensor([bool(success) for success in self._success])


def _action(space: Any, action: Tensor) -> Any:
    """An action for the environment: a class, or numbers clipped to its limits."""
    if hasattr(space, "n"):
        return int(space.start) + int(action)
    values = action.detach().cpu().numpy().astype(space.dtype).reshape(space.shape)
    return numpy.clip(values, space.low, space.high)


def _check_as_data(env: Any, name: str, data: Episodes) -> None:
    size, classes = data.observations.shape[1], data.num_actions
    numbers = data.actions.shape[1] if classes is None else None
    if state_size(env.observation_space) != size:
        problem = f"has observations of {state_size(env.observation_space)} numbers; those of the data have {size}"
        raise InvalidValue("env", name, problem)
    own_numbers = None if hasattr(env.action_space, "n") else int(numpy.prod(env.action_space.shape))
    if (num_actions(env), own_numbers) != (classes, numbers):
        of_data = f"{classes} classes" if classes is not None else f"{numbers} numbers"
        raise InvalidValue("env", name, f"has the actions {env.action_space}; those of the data are {of_data}")
