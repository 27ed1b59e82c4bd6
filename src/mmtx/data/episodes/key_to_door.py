"""Key to door, a credit-assignment task: only with the key of the first room is there a reward at the last room's
door."""

from collections.abc import Sequence

import numpy
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.episodes.episode_source import EpisodeSource, Windowing, check_generated_keys, data_seed
from mmtx.data.episodes.episodes import Episodes, Standardise
from mmtx.data.episodes.recorded_steps import concatenate_episodes
from mmtx.environment import Environment, Observation, Outcome
from mmtx.errors import InvalidValue, check_within
from mmtx.process.stopping import track

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Rows and columns of the four actions: up, down, left, right."""

NUM_ROOMS, KEY_ROOM, DOOR_ROOM = 3, 0, 2

PIXELS_PER_CELL, WALL = 16, 0.3
FLOOR, AGENT, KEY, DOOR = (0.95, 0.95, 0.95), (0.8, 0.2, 0.2), (0.9, 0.7, 0.1), (0.4, 0.25, 0.1)
"""Colours, red green blue in 0..1."""


class KeyToDoor(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.EpisodeSource`.

    The credit-assignment task of the Decision Transformer (arXiv 2106.01345, section 5.4), after Mesnard et al. (arXiv
    2011.09464). The papers do not give the sizes of the grids; those here are ours:

    - The agent spends `room_steps` steps in each of three rooms of `size` x `size` cells, one after the other. It
      starts in each in a uniformly drawn cell, other than that of an object.
    - Actions are four moves: up, down, left, right; a move against a wall does nothing.
    - The first room holds the key, in the middle of its second row. Entering that cell takes it.
    - The second room is empty.
    - The third room holds the door, in the middle of its last row but one. Entering that cell ends the episode; with
      the key the reward is 1. All other rewards are 0.
    - The state is the room (one-hot, 3 numbers), the agent's row and column, and the offset in rows and columns from
      the agent to the visible object, in units of `size`: the key in the first room until it is taken, the door in the
      third, otherwise 0. **Whether the agent has the key is not part of the state**; it follows from its past.

    The data are random walks. With the sizes of the config, rooms of 5 x 5 and 5 steps in each, which reach the objects
    from any cell, 2.4% of 10,000 succeed (2.0% of the first 1,000); in the paper it is 3.1%.

    Episode `i` is a pure function of (`split_seed`, `i`) and of the sizes. Rooms of the data are seeded from 2**31 on,
    so that smaller seeds are unseen.

    Args:
        size: cells along each side of a room.
        room_steps: in each of the three rooms; 0 leaves the second out.
        num_episodes: random walks, validation included.
        split_seed: of the episodes, and of the validation split.
        The other keys are those of `Windowing`.
    """

    def __init__(
        self,
        *,
        size: int,
        room_steps: list[int],
        num_episodes: int,
        context: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        _check_rooms(size, room_steps)
        windowing = Windowing(context, sum(room_steps), return_scale, val_fraction, split_seed)
        check_generated_keys(num_episodes=num_episodes, split_seed=split_seed)
        self.size, self.room_steps = size, tuple(room_steps)
        super().__init__(random_walks(size, self.room_steps, num_episodes, split_seed), windowing)
        self.reference_returns = self.mean_return, 1.0  # the random walks, and success

    def environment(self, num_episodes: int) -> Environment:
        return KeyToDoorEnvironment(size=self.size, room_steps=self.room_steps, standardise=self.standardise)


class KeyToDoorEnvironment(Environment):
    """See `KeyToDoor`.

    Args:
        size: cells along each side of a room.
        room_steps: in each of the three rooms.
        standardise: applied to states, as in the data; None: not standardised.
    """

    def __init__(self, *, size: int, room_steps: Sequence[int], standardise: Standardise | None) -> None:
        self.size, self._standardise = size, standardise
        self._room_of_step = torch.arange(NUM_ROOMS).repeat_interleave(torch.tensor(room_steps)).tolist()
        self._moves, self._key, self._door = (
            torch.tensor(cells) for cells in (MOVES, _key_cell(size), _door_cell(size))
        )

    @property
    def max_steps(self) -> int:
        return len(self._room_of_step)

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self._starts = torch.tensor([_starts(self.size, seed) for seed in seeds]).view(-1, NUM_ROOMS, 2)
        self._time, self._cell = 0, self._starts[:, 0]
        self._has_key = torch.zeros(len(seeds), dtype=torch.bool)
        self._over, self._success = self._has_key.clone(), self._has_key.clone()
        return self._observation(), [{} for _ in seeds]

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        live, room = ~self._over, self._room
        moved = (self._cell + self._moves[actions.cpu().long()]).clamp(0, self.size - 1)
        self._cell = torch.where(live[:, None], moved, self._cell)
        if room == KEY_ROOM:
            self._has_key = self._has_key | (live & (self._cell == self._key).all(1))
        at_door = live & (self._cell == self._door).all(1) if room == DOOR_ROOM else torch.zeros_like(live)
        self._success = self._success | (at_door & self._has_key)
        self._time += 1
        self._over = self._over | at_door | (self._time >= self.max_steps)
        if self._time < self.max_steps and self._room != room:
            self._cell = torch.where(self._over[:, None], self._cell, self._starts[:, self._room])
        return Outcome(
            self._observation(), (at_door & self._has_key).float(), self._over.clone(), self._success.clone()
        )

    def states(self) -> Float[Tensor, "n state"]:
        """The state of each agent, not standardised."""
        rooms = torch.zeros(len(self._cell), NUM_ROOMS)
        rooms[:, self._room] = 1
        to_object = torch.zeros_like(self._cell)
        if self._room == KEY_ROOM:
            to_object = torch.where(self._has_key[:, None], 0, self._key - self._cell)
        elif self._room == DOOR_ROOM:
            to_object = self._door - self._cell
        return torch.cat([rooms, self._cell / self.size, to_object / self.size], 1)

    def frame(self, index: int) -> Float[Tensor, "3 height width"]:
        """The rooms side by side, those without the agent darkened; the agent shows the key that it has."""
        rooms = []
        for room in range(NUM_ROOMS):
            picture = torch.tensor(FLOOR)[:, None, None].expand(3, self.size, self.size).clone()
            if room == KEY_ROOM and not self._has_key[index]:
                picture[:, *self._key] = torch.tensor(KEY)
            if room == DOOR_ROOM:
                picture[:, *self._door] = torch.tensor(DOOR)
            if room == self._room:
                picture[:, *self._cell[index]] = torch.tensor(AGENT)
            else:
                picture *= 0.6
            picture = picture.repeat_interleave(PIXELS_PER_CELL, 1).repeat_interleave(PIXELS_PER_CELL, 2)
            if room == self._room and self._has_key[index]:
                top, left = (self._cell[index] * PIXELS_PER_CELL + PIXELS_PER_CELL // 4).tolist()
                side = PIXELS_PER_CELL // 2
                picture[:, top : top + side, left : left + side] = torch.tensor(KEY)[:, None, None]
            rooms.append(torch.nn.functional.pad(picture, (2, 2, 2, 2), value=WALL))
        return torch.cat(rooms, 2)

    @property
    def _room(self) -> int:
        return self._room_of_step[min(self._time, self.max_steps - 1)]

    def _observation(self) -> Observation:
        states = self.states()
        states = states if self._standardise is None else self._standardise(states)
        return [{"state": {"values": state}} for state in states]


def random_walks(size: int, room_steps: Sequence[int], num_episodes: int, seed: int) -> Episodes:
    """Episodes of an agent that acts at random."""
    environment = KeyToDoorEnvironment(size=size, room_steps=room_steps, standardise=None)
    environment.reset([data_seed(seed, number) for number in range(num_episodes)])
    actions = _random_actions(num_episodes, environment.max_steps, seed)
    observations, rewards, overs = [], [], []
    for step in track(range(environment.max_steps), "random walks, step"):
        observations.append(environment.states())
        outcome = environment.step(actions[:, step])
        rewards.append(outcome.reward)
        overs.append(outcome.over)
    over = torch.stack(overs, 1)
    lengths = environment.max_steps - over.sum(1) + 1
    is_step = torch.arange(environment.max_steps) < lengths[:, None]
    steps = {"observations": torch.stack(observations, 1), "actions": actions, "rewards": torch.stack(rewards, 1)}
    recorded = {name: values[is_step].numpy() for name, values in steps.items()} | {
        "terminations": over[is_step].numpy()
    }
    return concatenate_episodes(recorded, where="key_to_door", num_actions=len(MOVES), max_steps=environment.max_steps)


def _random_actions(num_episodes: int, num_steps: int, seed: int) -> Int64[Tensor, "episodes steps"]:
    drawn = [numpy.random.default_rng([seed, i]).integers(len(MOVES), size=num_steps) for i in range(num_episodes)]
    return torch.from_numpy(numpy.stack(drawn))


def _starts(size: int, seed: int) -> list[tuple[int, int]]:
    """The agent's first cell in each room: any but that of the room's object."""
    generator = numpy.random.default_rng(seed)
    objects = {KEY_ROOM: _key_cell(size), DOOR_ROOM: _door_cell(size)}
    starts = []
    for room in range(NUM_ROOMS):
        cells = [(row, column) for row in range(size) for column in range(size) if (row, column) != objects.get(room)]
        starts.append(cells[int(generator.integers(len(cells)))])
    return starts


def _key_cell(size: int) -> tuple[int, int]:
    return 1, size // 2


def _door_cell(size: int) -> tuple[int, int]:
    return size - 2, size // 2


def _check_rooms(size: int, room_steps: Sequence[int]) -> None:
    check_within("size", size, 2, 100)
    if len(room_steps) != NUM_ROOMS:
        raise InvalidValue("room_steps", room_steps, f"must give the steps in each of {NUM_ROOMS} rooms")
    if min(room_steps) < 0 or not room_steps[KEY_ROOM] or not room_steps[DOOR_ROOM]:
        raise InvalidValue("room_steps", room_steps, "must be at least 1 in the first and the third room, 0 between")
