"""Paths round an obstacle, on either side of it: a task whose mean answer is wrong."""

from collections.abc import Sequence

import numpy
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.episodes.episode_source import EpisodeSource, Windowing, check_generated_keys, data_seed
from mmtx.data.episodes.episodes import Episodes, Standardise
from mmtx.environment import Environment, Observation, Outcome
from mmtx.errors import check_within
from mmtx.process.stopping import track

RADIUS, MARGIN, WOBBLE = 0.3, 0.15, 0.03
"""Of the obstacle; by how much demonstrations keep away from it; and the standard deviation of that."""

REACH = 0.1
"""A path has to begin and end as near to its start and goal."""

FINE = 10
"""Points of a segment of a path at which it is looked whether it meets the obstacle."""


class Obstacle(EpisodeSource):
    """Names: ``state``, ``action``, and ``return`` and ``reward``, which are 1 for success; see
    `mmtx.data.EpisodeSource`.

    A path leads from x = -1 to x = 1 round a disc of radius 0.3 on the line between. The state is the height of the
    start, of the goal and of the disc's middle, and its x; an episode is one step, whose action is the whole path: the
    heights at `num_points` values of x, evenly apart. It succeeds if the path does not meet the disc, and begins and
    ends within 0.1 of start and goal. Demonstrations pass above or below, each as often, so that their mean runs into
    the disc.

    Episode `i` is a pure function of (`split_seed`, `i`).

    Args:
        num_points: of a path.
        num_episodes: demonstrations, validation included.
        val_fraction: validation share of them.
        split_seed: of the demonstrations, and of the validation split.
    """

    def __init__(self, *, num_points: int, num_episodes: int, val_fraction: float, split_seed: int) -> None:
        check_within("num_points", num_points, 4, 1000)
        check_generated_keys(num_episodes=num_episodes, split_seed=split_seed)
        windowing = Windowing(1, 1, 1.0, val_fraction, split_seed)
        self.num_points = num_points
        seeds = [data_seed(split_seed, number) for number in range(num_episodes)]
        super().__init__(demonstrations(seeds, num_points), windowing)

    def environment(self, num_episodes: int) -> Environment:
        return ObstacleEnvironment(num_points=self.num_points, standardise=self.standardise)


class ObstacleEnvironment(Environment):
    """See `Obstacle`.

    Args:
        num_points: of a path.
        standardise: applied to states, as in the data.
    """

    def __init__(self, *, num_points: int, standardise: Standardise) -> None:
        self.num_points, self._standardise = num_points, standardise

    @property
    def max_steps(self) -> int:
        return 1

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self._states = numpy.stack([_state(numpy.random.default_rng(seed)) for seed in seeds])
        self._paths: list[Float64[numpy.ndarray, " points"]] = []
        return self._observation(), [{} for _ in seeds]

    def step(self, actions: Shaped[Tensor, "n points"]) -> Outcome:
        paths = actions.double().cpu().numpy()
        self._paths = [*paths]
        reached = torch.tensor([succeeds(*pair) for pair in zip(self._states, paths, strict=True)])
        return Outcome(self._observation(), reached.float(), torch.ones_like(reached), reached)

    def frame(self, index: int) -> Float[Tensor, "3 height width"]:
        """The disc, the start and the goal, and the path once it was taken."""
        start, goal, height, middle = self._states[index]
        x, y = numpy.meshgrid(numpy.linspace(-1.1, 1.1, 110), numpy.linspace(1.1, -1.1, 110))
        picture = numpy.full((3, 110, 110), 0.95)
        picture[:, numpy.hypot(x - middle, y - height) < RADIUS] = 0.5
        points = numpy.array([[-1.0, start], [1.0, goal]])
        if self._paths:
            points = numpy.concatenate([points, numpy.stack(_fine(self._paths[index]), axis=1)])
        for place in points:
            picture[:, numpy.hypot(x - place[0], y - place[1]) < 0.03] = numpy.array([0.8, 0.2, 0.2])[:, None]
        return torch.from_numpy(picture).float()

    def _observation(self) -> Observation:
        states = self._standardise(torch.from_numpy(self._states).float())
        return [{"state": {"values": state}} for state in states]


def succeeds(state: Float64[numpy.ndarray, "4"], path: Float64[numpy.ndarray, " points"]) -> bool:
    """Whether a path begins at its start, meets no obstacle and ends at its goal."""
    start, goal, height, middle = state
    x, y = _fine(path)
    free = bool((numpy.hypot(x - middle, y - height) >= RADIUS).all())
    return free and bool(abs(path[0] - start) <= REACH) and bool(abs(path[-1] - goal) <= REACH)


def demonstrations(seeds: Sequence[int], num_points: int) -> Episodes:
    """One episode for each seed."""
    generators = map(numpy.random.default_rng, track(seeds, "demonstrations"))
    drawn = [_demonstration(generator, num_points) for generator in generators]
    states, paths = (torch.from_numpy(numpy.stack(each)).float() for each in zip(*drawn, strict=True))
    offsets = torch.arange(len(seeds) + 1)
    return Episodes(states, paths, torch.ones(len(seeds)), offsets, num_actions=None)


def _demonstration(
    generator: numpy.random.Generator, num_points: int
) -> tuple[Float64[numpy.ndarray, "4"], Float64[numpy.ndarray, " points"]]:
    """A state, and a path that passes the disc above or below in half a wave."""
    state = _state(generator)
    start, goal, height, middle = state
    side = 1.0 if generator.random() < 0.5 else -1.0
    room = RADIUS + MARGIN + WOBBLE * generator.standard_normal()
    x = numpy.linspace(-1, 1, num_points)
    straight = start + (goal - start) * (x + 1) / 2
    at_disc = start + (goal - start) * (middle + 1) / 2
    bump = numpy.exp(-(((x - middle) / (2 * RADIUS)) ** 4))  # flat over the disc, and nothing at both ends
    return state, straight + (height + side * room - at_disc) * bump


def _state(generator: numpy.random.Generator) -> Float64[numpy.ndarray, "4"]:
    """Heights of start and goal, and the disc's height and x."""
    low = numpy.array([-0.2, -0.2, -0.1, -0.1])
    return generator.uniform(low, -low)


def _fine(path: Float64[numpy.ndarray, " points"]) -> tuple[Float64[numpy.ndarray, " fine"], ...]:
    """Points of a path with straight segments, close to each other."""
    x = numpy.linspace(-1, 1, FINE * (len(path) - 1) + 1)
    return x, numpy.interp(x, numpy.linspace(-1, 1, len(path)), path)
