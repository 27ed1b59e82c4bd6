"""A T-maze with a sign: which way to turn at its end is shown once, long before."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.episodes.episode_source import EpisodeSource, Windowing, check_generated_keys, data_seed
from mmtx.data.episodes.episodes import Episodes, Standardise
from mmtx.environment import Environment, Observation, Outcome
from mmtx.errors import InvalidValue, check_at_least

FORWARD, LEFT, RIGHT, BEGIN_NOTE, END_NOTE = range(5)
"""The actions."""

NUM_ACTIONS, STATE_SIZE = 5, 3


class TMaze(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.EpisodeSource`.

    After Bakker (2001, Reinforcement learning with long short-term memory): a corridor leads to a fork, and a sign says
    which way is right there. The sign stands anywhere in the corridor, and is seen from its own cell alone.

    - Actions are to go forward, which does nothing at the fork; to turn left or right, which does nothing elsewhere and
      ends the episode at the fork, with a reward of 1 for the way of the sign; and to begin and to end a note, which
      does nothing in the maze: classes 0 to 4.
    - The state is whether a sign to the left is seen, whether one to the right is, and whether this is the fork.

    In demonstrations, a note begins and ends in the cell of the sign, and all else is the shortest way. Their corridors
    may be so short that a window holds sign and fork; where a model acts, they are as long as `acted_cells`.

    Episode `i` is a pure function of (`split_seed`, `i`) and of the sizes. Mazes of the data are seeded from 2**31 on,
    so that smaller seeds are unseen.

    Args:
        cells: fewest and most of the corridor in demonstrations, all equally often.
        acted_cells: of the corridor in which a model acts; beyond the three steps in which nothing moves, an episode
            has no more time.
        num_episodes: demonstrations, validation included.
        split_seed: of the demonstrations, and of the validation split.
        The other keys are those of `Windowing`.
    """

    def __init__(
        self,
        *,
        cells: list[int],
        acted_cells: int,
        num_episodes: int,
        context: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        if len(cells) != 2 or not 1 <= cells[0] <= cells[1]:
            raise InvalidValue("cells", cells, "must be the fewest and the most, of at least 1", "[3,13]")
        check_at_least("acted_cells", acted_cells, 1)
        check_generated_keys(num_episodes=num_episodes, split_seed=split_seed)
        windowing = Windowing(context, _steps(max(cells[1], acted_cells)), return_scale, val_fraction, split_seed)
        self.acted_cells = acted_cells
        seeds = [data_seed(split_seed, number) for number in range(num_episodes)]
        super().__init__(demonstrations([_drawn(seed, *cells) for seed in seeds]), windowing)
        self.reference_returns = 0.5, 1.0  # a guess at the fork, and the way of the sign

    def environment(self, num_episodes: int) -> Environment:
        return TMazeEnvironment(cells=self.acted_cells, standardise=self.standardise)


class _Maze(NamedTuple):
    """Cells of the corridor, that of the sign, and the turn that it shows."""

    cells: int
    sign: int
    turn: int


class TMazeEnvironment(Environment):
    """See `TMaze`.

    Args:
        cells: of the corridor.
        standardise: applied to states, as in the data.
    """

    def __init__(self, *, cells: int, standardise: Standardise) -> None:
        self.cells, self._standardise = cells, standardise

    @property
    def max_steps(self) -> int:
        return _steps(self.cells)

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        mazes = [_drawn(seed, self.cells, self.cells) for seed in seeds]
        self._sign, self._turn = (torch.tensor([getattr(maze, key) for maze in mazes]) for key in ("sign", "turn"))
        self._cell, self._time = torch.zeros_like(self._sign), 0
        self._over, self._success = (torch.zeros(len(seeds), dtype=torch.bool) for _ in range(2))
        return self._observation(), [{} for _ in seeds]

    def step(self, actions: Shaped[Tensor, "n ..."]) -> Outcome:
        taken, live = actions.cpu().long(), ~self._over
        turned = live & (self._cell == self.cells) & ((taken == LEFT) | (taken == RIGHT))
        right = turned & (taken == self._turn)
        self._cell = (self._cell + (live & (taken == FORWARD))).clamp(max=self.cells)
        self._time += 1
        self._over = self._over | turned | (self._time >= self.max_steps)
        self._success = self._success | right
        return Outcome(self._observation(), right.float(), self._over.clone(), self._success.clone())

    def frame(self, index: int) -> None:
        """It draws no pictures."""
        return

    def _observation(self) -> Observation:
        states = self._standardise(_states(self._cell, self._sign, self._turn, self._cell == self.cells))
        return [{"state": {"values": state}} for state in states]


def demonstrations(mazes: Sequence[_Maze]) -> Episodes:
    """One episode for each maze."""
    states, actions = zip(*map(_demonstration, mazes), strict=True)
    offsets = torch.tensor([0, *map(len, actions)]).cumsum(0)
    rewards = torch.zeros(int(offsets[-1]))
    rewards[offsets[1:] - 1] = 1.0
    return Episodes(torch.cat(states), torch.cat(actions), rewards, offsets, num_actions=NUM_ACTIONS)


def _demonstration(maze: _Maze) -> tuple[Float[Tensor, "steps 3"], Int[Tensor, " steps"]]:
    """States and actions of the shortest way, with a note of the sign."""
    note, cell = [BEGIN_NOTE, END_NOTE], torch.arange(maze.cells + 1)
    actions = [FORWARD] * maze.sign + note + [FORWARD] * (maze.cells - maze.sign) + [maze.turn]
    cell = cell.repeat_interleave(1 + len(note) * (cell == maze.sign))
    sign, turn = torch.tensor(maze.sign), torch.tensor(maze.turn)
    return _states(cell, sign, turn, cell == maze.cells), torch.tensor(actions)


def _states(
    cell: Int[Tensor, " n"], sign: Int[Tensor, "*n"], turn: Int[Tensor, "*n"], at_fork: Shaped[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """What is seen, not standardised."""
    seen = cell == sign
    return torch.stack([seen & (turn == LEFT), seen & (turn == RIGHT), at_fork], 1).float()


def _drawn(seed: int, fewest: int, most: int) -> _Maze:
    generator = numpy.random.default_rng(seed)
    cells = int(generator.integers(fewest, most + 1))
    return _Maze(cells, int(generator.integers(cells)), int(generator.choice([LEFT, RIGHT])))


def _steps(cells: int) -> int:
    """Of the shortest way with a note: one for each cell, two for the note, and the turn."""
    return cells + 3
