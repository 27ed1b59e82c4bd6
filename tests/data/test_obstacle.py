"""Paths round an obstacle: what succeeds, by plain geometry, and what demonstrations have in common."""

from __future__ import annotations

import numpy
import pytest
import torch
from contracts import check_learns, check_source

from mmtx.data.episodes.obstacle import RADIUS, Obstacle, ObstacleEnvironment, succeeds
from mmtx.errors import InvalidValue


def obstacle(**changed: object) -> Obstacle:
    keys = {"num_points": 16, "num_episodes": 60, "val_fraction": 0.1, "split_seed": 0}
    return Obstacle(**{**keys, **changed})  # type: ignore[arg-type]


def test_contract() -> None:
    check_source(obstacle())
    check_learns(obstacle, lambda: obstacle(num_episodes=30), splits=())


def test_demonstrations_succeed_on_both_sides_and_their_mean_does_not() -> None:
    source = obstacle(num_episodes=200)
    states = source.episodes.observations.double().numpy()
    paths = source.episodes.actions.double().numpy()
    assert all(succeeds(*pair) for pair in zip(states, paths, strict=True))
    above = paths.max(1) - states[:, 2] > -(paths.min(1) - states[:, 2])
    assert 70 < above.sum() < 130
    mean = (paths[above].mean(0) + paths[~above].mean(0)) / 2
    assert not succeeds(numpy.zeros(4), mean)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([0.0, 0.5, 0.5, 0.5, 0.0], True),
        ([0.0, -0.5, -0.5, -0.5, 0.0], True),
        ([0.0, 0.5, -0.5, 0.5, 0.0], False),  # through the middle, whatever its points
        ([0.0, 0.5, 0.29, 0.5, 0.0], False),
        ([0.0, 0.5, 0.5, 0.5, 0.2], False),  # past the goal
        ([0.2, 0.5, 0.5, 0.5, 0.0], False),  # not from the start
        ([0.0, 0.0, 0.35, 0.0, 0.0], False),  # its segments pass nearer than its highest point
    ],
)
def test_paths_that_succeed(path: list[float], expected: bool) -> None:
    """The distance of the middle from each segment, computed by projection."""
    points = numpy.stack([numpy.linspace(-1, 1, 5), numpy.array(path)], axis=1)
    nearest = []
    for begin, end in zip(points[:-1], points[1:], strict=True):
        along = numpy.clip(-(begin @ (end - begin)) / ((end - begin) @ (end - begin)), 0, 1)
        nearest.append(numpy.linalg.norm(begin + along * (end - begin)))
    by_hand = min(nearest) >= RADIUS and abs(path[0]) <= 0.1 and abs(path[-1]) <= 0.1
    assert succeeds(numpy.zeros(4), numpy.array(path)) == by_hand == expected


def test_an_episode_is_one_path() -> None:
    source = obstacle()
    environment = source.environment(2)
    first, _ = environment.reset([5, 6])
    again, _ = environment.reset([5, 6])
    assert first[0]["state"]["values"].equal(again[0]["state"]["values"])
    assert environment.max_steps == 1 and isinstance(environment, ObstacleEnvironment)
    before = environment.frame(0)
    assert before is not None
    outcome = environment.step(torch.tensor([[0.0] * 16, [2.0] * 16]))
    assert outcome.success is not None and not outcome.success.any()
    assert outcome.over.all() and not outcome.reward.any()
    assert before.shape == (3, 110, 110) and not environment.frame(0).equal(before)


@pytest.mark.parametrize(("key", "value"), [("num_points", 3), ("num_episodes", 0), ("split_seed", -1)])
def test_values_that_cannot_be(key: str, value: int) -> None:
    with pytest.raises(InvalidValue, match=f"{key}={value} must"):
        obstacle(**{key: value})
