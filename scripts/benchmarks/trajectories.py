"""Batches of 64 windows of 20 steps of trajectories, against one window after the other.

The peer is our own writing of the loop that public decision transformers make their batches with: episodes are
drawn in proportion to their lengths, and each window is cut, padded in front, standardised and given its returns-to-go
by itself, in numpy, before all are joined and become tensors. That loop adds up the rewards of every window to its
episode's end in Python; it is timed without that as well. Both get the shape of D4RL's Hopper: states of 11 numbers,
actions of 3, episodes of up to 1,000 steps. That both cut the same windows alike is tried first.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy
import torch

from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.batch import Batch
from mmtx.data.base import BatchSplit
from mmtx.data.episodes.episode_source import EpisodeSource, Windowing
from mmtx.data.episodes.recorded_steps import concatenate_episodes
from mmtx.data.sampler import Order
from mmtx.environment import Environment

BATCH, CONTEXT, STATE, ACTION, MAX_STEPS, SCALE = 64, 20, 11, 3, 1000, 1000.0

Recorded = dict[str, numpy.ndarray]


def measured(effort: Effort) -> Iterator[Row]:
    recorded = recorded_episodes(20 if effort.quick else 400)
    source = Hopper(
        concatenate_episodes(recorded, where="hopper", num_actions=None, max_steps=MAX_STEPS),
        Windowing(context=CONTEXT, max_steps=MAX_STEPS, return_scale=SCALE, val_fraction=0.0, split_seed=0),
    )
    ours, loop, faster = Ours(source), Loop(recorded, step_by_step), Loop(recorded, at_once)
    check_equal(ours, loop, source)
    check_equal(ours, faster, source)
    peer = "a loop over windows"
    yield ratio("a batch of trajectories", peer, compare(ours.batch, loop.batch, effort.pairs(201)))
    peer += ", returns-to-go added up by numpy"
    yield ratio("the same", peer, compare(ours.batch, faster.batch, effort.pairs(201)))


class Hopper(EpisodeSource):
    """Random numbers in the shape of D4RL's Hopper."""

    @property
    def reference_returns(self) -> None:
        return None

    def environment(self, num_episodes: int) -> Environment:
        raise NotImplementedError


def recorded_episodes(count: int) -> list[Recorded]:
    generator = numpy.random.default_rng(0)
    episodes = []
    for _ in range(count):
        steps = int(generator.integers(100, MAX_STEPS + 1))
        episodes.append(
            {
                "observations": generator.normal(size=(steps, STATE)).astype(numpy.float32),
                "actions": generator.uniform(-1, 1, size=(steps, ACTION)).astype(numpy.float32),
                "rewards": generator.uniform(0, 3, size=steps),
            }
        )
    return episodes


def step_by_step(rewards: numpy.ndarray) -> numpy.ndarray:
    """Returns-to-go as the public loop adds them up: over all steps to the episode's end, one after the other."""
    returns = numpy.zeros_like(rewards)
    returns[-1] = rewards[-1]
    for step in reversed(range(len(rewards) - 1)):
        returns[step] = rewards[step] + returns[step + 1]
    return returns


def at_once(rewards: numpy.ndarray) -> numpy.ndarray:
    """The same by numpy."""
    return numpy.cumsum(rewards[::-1])[::-1]


class Loop:
    """One window after the other."""

    def __init__(self, episodes: list[Recorded], add_up: Callable[[numpy.ndarray], numpy.ndarray]) -> None:
        self.episodes, self.add_up = episodes, add_up
        lengths = numpy.array([len(episode["rewards"]) for episode in episodes])
        self.shares = lengths / lengths.sum()
        states = numpy.concatenate([episode["observations"] for episode in episodes]).astype(numpy.float64)
        self.mean, self.std = states.mean(0), states.std(0) + 1e-6
        self.generator = numpy.random.default_rng(0)

    def batch(self) -> list[torch.Tensor]:
        drawn = self.generator.choice(len(self.episodes), size=BATCH, replace=True, p=self.shares)
        begins = [int(self.generator.integers(len(self.episodes[number]["rewards"]))) for number in drawn]
        return self.windows(list(zip(drawn.tolist(), begins, strict=True)))

    def windows(self, places: list[tuple[int, int]]) -> list[torch.Tensor]:
        states, actions, rewards, returns, times, masks = [], [], [], [], [], []
        for number, begin in places:
            episode = self.episodes[number]
            state = episode["observations"][begin : begin + CONTEXT].reshape(1, -1, STATE)
            action = episode["actions"][begin : begin + CONTEXT].reshape(1, -1, ACTION)
            reward = episode["rewards"][begin : begin + CONTEXT].reshape(1, -1, 1)
            length = state.shape[1]
            to_go = self.add_up(episode["rewards"][begin:])[:length].reshape(1, -1, 1)
            missing = CONTEXT - length
            state = numpy.concatenate([numpy.zeros((1, missing, STATE)), state], axis=1)
            states.append((state - self.mean) / self.std)
            actions.append(numpy.concatenate([numpy.ones((1, missing, ACTION)) * -10.0, action], axis=1))
            rewards.append(numpy.concatenate([numpy.zeros((1, missing, 1)), reward], axis=1))
            returns.append(numpy.concatenate([numpy.zeros((1, missing, 1)), to_go], axis=1) / SCALE)
            time_steps = numpy.arange(begin, begin + length).reshape(1, -1)
            times.append(numpy.concatenate([numpy.zeros((1, missing)), time_steps], axis=1))
            masks.append(numpy.concatenate([numpy.zeros((1, missing)), numpy.ones((1, length))], axis=1))
        floats = [
            torch.from_numpy(numpy.concatenate(part, axis=0)).float() for part in (states, actions, rewards, returns)
        ]
        wholes = [torch.from_numpy(numpy.concatenate(part, axis=0)).long() for part in (times, masks)]
        return [*floats, *wholes]


class Ours:
    """Windows of the training split in the order that training takes them, all names."""

    def __init__(self, source: Hopper) -> None:
        self.specs, self.split = source.specs, source.train()
        self.draws = Order(len(self.split), 0).draws(0, 10**9)

    def batch(self) -> Batch:
        return self.windows([draw.index for draw in islice(self.draws, BATCH)])

    def windows(self, indices: list[int]) -> Batch:
        assert isinstance(self.split, BatchSplit)
        return self.split.batch(indices, self.specs)


def check_equal(ours: Ours, loop: Loop, source: Hopper) -> None:
    """Raises where the two cut one window differently."""
    indices = [0, 1, 500, *(int(end) - 7 for end in source.episodes.offsets[1:5])]
    batch = ours.windows(indices)
    offsets = source.episodes.offsets
    numbers = [int(torch.searchsorted(offsets, i, right=True)) - 1 for i in indices]
    places = [(number, i - int(offsets[number])) for number, i in zip(numbers, indices, strict=True)]
    state, action, _, to_go, times, _ = loop.windows(places)
    for row, length in enumerate(batch.lengths["state"].tolist()):
        pairs = [("state", "values", state), ("action", "values", action), ("return", "values", to_go)]
        for name, key, theirs in [*pairs, ("state", "times", times)]:
            torch.testing.assert_close(batch[name][key][row, :length], theirs[row, CONTEXT - length :])
