"""Recorded episodes, and the windows of their steps that a decision transformer learns from (arXiv 2106.01345)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mmtx.batch import Batch, Field, Sample, Spec
from mmtx.data.base import Source, Split
from mmtx.data.stratified import hold_out
from mmtx.errors import InvalidValue, UserError
from mmtx.world import Playable, World

FIRST_DATA_SEED = 2**31
"""Environments of datasets are seeded from here on; whoever evaluates takes smaller seeds, and meets nothing again."""

MOST_EPISODES = 10_000_000

LARGEST_STATE = 4096
"""Numbers of one observation; what has more is a picture, not a vector."""

Recorded = Mapping[str, Any]
"""``observations actions rewards`` of the steps of one episode, or of many end to end, then with ``terminations`` and
perhaps ``truncations``."""


def data_seed(split_seed: int, episode: int) -> int:
    """Seed of an environment in which an episode of a dataset takes place, in ``2**31..2**32 - 1``."""
    drawn = numpy.random.SeedSequence([split_seed, episode]).generate_state(1)
    return FIRST_DATA_SEED | int(drawn[0]) % FIRST_DATA_SEED


@dataclass(frozen=True)
class Episodes:
    """All steps of all episodes end to end, episode `i` from ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
        observations: what the agent saw before each step.
        actions: what it did: classes ``(steps,)`` int64 or numbers ``(steps, A)`` float32.
        rewards: what it earned by it.
        offsets: where episodes begin and end.
        num_actions: classes of actions; None: they are numbers.
    """

    observations: Float[Tensor, "steps state"]
    actions: Shaped[Tensor, " steps *size"]
    rewards: Float[Tensor, " steps"]
    offsets: Int64[Tensor, " episodes_and_1"]
    num_actions: int | None

    @classmethod
    def of(
        cls, recorded: Recorded | Sequence[Recorded], *, where: str, num_actions: int | None, max_steps: int
    ) -> Episodes:
        """Checks what was recorded and lays it out.

        Args:
            recorded: episodes one by one, or all their steps end to end.
            where: it was found, for errors.
            num_actions: classes that discrete actions may have; None: as many as there are.
            max_steps: that an episode may have.

        Raises:
            UserError: something of it cannot be learned from, naming episode and field.
        """
        together = _cut(recorded, where) if isinstance(recorded, Mapping) else _joined(recorded, where)
        offsets = torch.from_numpy(together.pop("offsets"))
        _check_lengths(offsets, where, max_steps)
        arrays = {name: _numbers(array, f"{where}: {name}") for name, array in together.items()}
        actions, num_actions = _actions(arrays["actions"], offsets, where, num_actions)
        state = arrays["observations"].reshape(len(arrays["observations"]), -1)
        if state.shape[1] > LARGEST_STATE:
            raise UserError(f"{where}: observations are {state.shape[1]:,} numbers each; vectors have {LARGEST_STATE}")
        with numpy.errstate(over="ignore"):  # what is too large becomes infinite, and is reported as that
            observations = torch.from_numpy(state.astype(numpy.float32))
        rewards = torch.from_numpy(arrays["rewards"].astype(numpy.float64).reshape(-1))
        for name, values in (("observations", observations), ("rewards", rewards), ("actions", actions)):
            _check_finite(name, values, offsets, where)
        return cls(observations, actions, rewards, offsets, num_actions)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Int64[Tensor, " episodes"]:
        """Steps of each."""
        return self.offsets.diff()

    @cached_property
    def times(self) -> Int64[Tensor, " steps"]:
        """Index of each step within its episode."""
        return torch.arange(len(self.rewards)) - self.offsets[:-1].repeat_interleave(self.lengths)

    @cached_property
    def returns_to_go(self) -> Float[Tensor, " steps"]:
        """What is earned from each step to the end of its episode, undiscounted."""
        earned = torch.cat([self.rewards.new_zeros(1), self.rewards.cumsum(0)])
        return earned[self.offsets[1:]].repeat_interleave(self.lengths) - earned[:-1]

    @cached_property
    def returns(self) -> Float[Tensor, " episodes"]:
        return self.returns_to_go[self.offsets[:-1]]

    @cached_property
    def previous_rewards(self) -> Float[Tensor, " steps"]:
        """What was earned by the step before each; 0 at the first of an episode."""
        before = self.rewards.roll(1)
        before[self.offsets[:-1]] = 0
        return before

    def steps_of(self, episodes: Int64[Tensor, " some"]) -> Int64[Tensor, " steps"]:
        """Indices of all steps of some episodes."""
        lengths = self.lengths[episodes]
        before = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return self.offsets[episodes].repeat_interleave(lengths) + torch.arange(int(lengths.sum())) - before


@dataclass(frozen=True)
class Standardise:
    """Brings observations to mean 0 and standard deviation 1.

    Attributes:
        mean: of the training data.
        std: of the training data, and a little more.
    """

    mean: Float[Tensor, " state"]
    std: Float[Tensor, " state"]

    @classmethod
    def to(cls, observations: Float[Tensor, "steps state"]) -> Standardise:
        values = observations.double()
        return cls(values.mean(0).float(), (values.std(0, correction=0) + 1e-6).float())

    def __call__(self, observations: Float[Tensor, "*steps state"]) -> Float[Tensor, "*steps state"]:
        return (observations - self.mean) / self.std


class StepTable:
    """The fields of every step side by side, one table for each dtype, so that one look-up in it fetches them all.

    Fields that are one tensor are kept once, and share their memory in what is fetched. After the last step comes a row
    of zeros: what padding is.

    Args:
        steps: the fields ``(steps, ...)``; of each step a number, or a vector.
    """

    def __init__(self, steps: Sample) -> None:
        columns: dict[torch.dtype, list[Tensor]] = {}
        known: dict[int, slice] = {}
        self._places: dict[str, dict[str, tuple[torch.dtype, int | slice]]] = {}
        for name, fields in steps.items():
            self._places[name] = {}
            for key, values in fields.items():
                beside = columns.setdefault(values.dtype, [])
                if id(values) not in known:
                    first = sum(column.shape[1] for column in beside)
                    beside.append(values.flatten(1) if values.dim() > 1 else values[:, None])
                    known[id(values)] = slice(first, first + beside[-1].shape[1])
                place = known[id(values)]
                self._places[name][key] = values.dtype, place if values.dim() > 1 else place.start
        self.names = tuple(self._places)
        self._tables = {
            dtype: torch.cat([torch.cat(beside, 1), beside[0].new_zeros(1, sum(c.shape[1] for c in beside))])
            for dtype, beside in columns.items()
        }
        self.padding = len(next(iter(self._tables.values()))) - 1

    def fetch(self, rows: Int64[Tensor, "*index"], names: Iterable[str]) -> Sample:
        """The fields of some steps, ``(*index, ...)``."""
        flat = rows.flatten()
        found = {dtype: table.index_select(0, flat).view(*rows.shape, -1) for dtype, table in self._tables.items()}
        return {
            name: {key: found[dtype][..., place] for key, (dtype, place) in self._places[name].items()}
            for name in names
        }


class Windows:
    """A split of windows of steps; a `mmtx.data.base.BatchSplit`.

    Args:
        steps: the fields of every step.
        begin: first step of each window.
        lengths: steps of each window.
    """

    def __init__(self, steps: StepTable, begin: Int64[Tensor, " windows"], lengths: Int64[Tensor, " windows"]) -> None:
        self._steps, self._begin, self._lengths = steps, begin, lengths

    def __len__(self) -> int:
        return len(self._begin)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._begin[index] + torch.arange(int(self._lengths[index]))
        return self._steps.fetch(rows, self._steps.names)

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        ids = torch.tensor(indices)
        lengths = self._lengths[ids]
        shortest, longest = (int(length) for length in lengths.aminmax())
        reach = torch.arange(longest)
        rows = self._begin[ids, None] + reach
        if shortest < longest:
            rows.masked_fill_(reach >= lengths[:, None], self._steps.padding)
        fields = self._steps.fetch(rows, specs)
        return Batch(fields, dict.fromkeys(specs, lengths), dict.fromkeys(specs, shortest == longest), ids)


class EpisodeSource(Source, Playable):
    """Names: ``return`` (what is still to be earned), ``reward`` (what the step before earned), ``state``, ``action``.

    A sample is a window of one episode, and every name has a position for each of its steps. In training, a window
    begins at every step of every episode and goes on for `context` steps or to the episode's end, so that episodes are
    drawn in proportion to their lengths and their steps alike. In validation, windows of held-out episodes lie end to
    end. There is no test part: the test is to act.

    Args:
        episodes: the data.
        context: steps of a window at most.
        max_steps: that an episode may have, here and where a model acts.
        return_scale: what returns and rewards are divided by.
        val_fraction: of the episodes, held out to watch training; 0: none.
        split_seed: which ones.
    """

    def __init__(
        self,
        *,
        episodes: Episodes,
        context: int,
        max_steps: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        self.episodes, self.context, self.max_steps, self._return_scale = episodes, context, max_steps, return_scale
        kept, self._held = _held_out(len(episodes), val_fraction, split_seed)
        self._learned = episodes.steps_of(kept)
        self.standardise = Standardise.to(episodes.observations[self._learned])
        self._steps = self._step_table()

    @property
    @abstractmethod
    def reference_returns(self) -> tuple[float, float] | None: ...

    @abstractmethod
    def world(self, num_episodes: int) -> World: ...

    @property
    def best_return(self) -> float:
        return float(self.episodes.returns.max())

    @property
    def return_scale(self) -> float:
        return self._return_scale

    @property
    def specs(self) -> Mapping[str, Spec]:
        times = Field((None,), torch.long, num_classes=self.max_steps, max_length=self.context, rising=True)
        specs = {}
        for name, size in (("return", 1), ("reward", 1), ("state", self.episodes.observations.shape[1])):
            values = Field((None, size), torch.float32, max_length=self.context)
            specs[name] = Spec({"values": values, "times": times})
        num_actions, actions = self.episodes.num_actions, self.episodes.actions
        action = Field((None, *actions.shape[1:]), actions.dtype, num_classes=num_actions, max_length=self.context)
        specs["action"] = Spec({self._action_key: action, "times": times})
        return specs

    def train(self) -> Split:
        left = (self.episodes.lengths.repeat_interleave(self.episodes.lengths) - self.episodes.times)[self._learned]
        return Windows(self._steps, self._learned, left.clamp(max=self.context))

    def val(self) -> Split | None:
        begin, lengths = [], []
        for episode in self._held.tolist():
            first, end = self.episodes.offsets[episode : episode + 2].tolist()
            for step in range(first, end, self.context):
                begin.append(step)
                lengths.append(min(self.context, end - step))
        return Windows(self._steps, torch.tensor(begin), torch.tensor(lengths)) if begin else None

    def test(self) -> None:
        return None

    @property
    def _action_key(self) -> str:
        return "values" if self.episodes.num_actions is None else "class"

    def _step_table(self) -> StepTable:
        episodes = self.episodes
        fields = {
            "return": {"values": (episodes.returns_to_go / self._return_scale).float()[:, None]},
            "reward": {"values": (episodes.previous_rewards / self._return_scale).float()[:, None]},
            "state": {"values": self.standardise(episodes.observations)},
            "action": {self._action_key: episodes.actions},
        }
        return StepTable({name: {**values, "times": episodes.times} for name, values in fields.items()})


def check_window_keys(*, context: int, max_steps: int, return_scale: float, val_fraction: float) -> None:
    """Checks the keys that all datasets of episodes share, before anything is read or made."""
    if max_steps < 1:
        raise InvalidValue("max_steps", max_steps, "must be at least 1")
    if not 1 <= context <= max_steps:
        nearest = str(min(max(context, 1), max_steps))
        raise InvalidValue("context", context, f"must lie in 1..{max_steps} (max_steps)", nearest)
    if not 0 < return_scale < float("inf"):
        raise InvalidValue("return_scale", return_scale, "must be more than 0, and finite")
    if not 0 <= val_fraction < 1:
        raise InvalidValue("val_fraction", val_fraction, "must lie in 0..1, less than 1")


def check_generated_keys(*, num_episodes: int, split_seed: int) -> None:
    """Checks the keys that all datasets share whose episodes are made rather than read."""
    if not 1 <= num_episodes <= MOST_EPISODES:
        raise InvalidValue("num_episodes", num_episodes, f"must lie in 1..{MOST_EPISODES}")
    if split_seed < 0:
        raise InvalidValue("split_seed", split_seed, "must be at least 0")


def _held_out(count: int, fraction: float, seed: int) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    held = min(round(count * fraction), count - 1)
    if fraction and held < 1:
        raise InvalidValue("val_fraction", fraction, f"of {count} episodes holds none out, as training keeps one")
    return hold_out(torch.zeros(count, dtype=torch.long), held, seed)


# --- checks -----------------------------------------------------------------------------------------------------------

FIELDS = ("observations", "actions", "rewards")


def _joined(recorded: Sequence[Recorded], where: str) -> dict[str, Any]:
    """Episodes that were recorded one by one, end to end."""
    if not recorded:
        raise UserError(f"{where} has no episodes")
    parts: dict[str, list[Any]] = {name: [] for name in FIELDS}
    lengths = []
    for number, episode in enumerate(recorded):
        place = f"{where}, episode {number}"
        arrays = {name: _numbers(_field(episode, name, place), f"{place}: {name}") for name in FIELDS}
        steps = len(arrays["rewards"])
        if len(arrays["observations"]) == steps + 1:  # what was seen after the last step
            arrays["observations"] = arrays["observations"][:-1]
        _check_equal_lengths(arrays, place)
        if not steps:
            raise UserError(f"{place} is empty: rewards has no steps")
        for name in FIELDS:
            first = (parts[name] or [arrays[name]])[0]
            if arrays[name].shape[1:] != first.shape[1:]:
                sizes = f"the shape {arrays[name].shape[1:]} a step, in episode 0 it is {first.shape[1:]}"
                raise UserError(f"{place}: {name} has {sizes}")
            if (arrays[name].dtype.kind == "f") != (first.dtype.kind == "f"):
                raise UserError(f"{place}: {name} holds {arrays[name].dtype}, in episode 0 it is {first.dtype}")
            parts[name].append(arrays[name])
        lengths.append(steps)
    together: dict[str, Any] = {name: numpy.concatenate(arrays) for name, arrays in parts.items()}
    return together | {"offsets": numpy.cumsum([0, *lengths])}


def _cut(recorded: Recorded, where: str) -> dict[str, Any]:
    """Steps that were recorded end to end, with the places where episodes end."""
    arrays = {name: numpy.asarray(_field(recorded, name, where)) for name in (*FIELDS, "terminations")}
    if "truncations" in recorded:
        arrays["truncations"] = numpy.asarray(recorded["truncations"])
    _check_equal_lengths(arrays, where)
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    for name in ("terminations", "truncations"):
        if name in arrays:
            ends |= _numbers(arrays.pop(name), f"{where}: {name}").reshape(-1).astype(bool)
    last = numpy.flatnonzero(ends)
    if not len(last):
        raise UserError(f"{where}: terminations and truncations are false at every step, so that no episode ends")
    kept = last[-1] + 1  # of an episode that goes on at the end of the data, what it would earn is not known
    return {name: array[:kept] for name, array in arrays.items()} | {"offsets": numpy.array([0, *(last + 1)])}


def _field(recorded: Recorded, name: str, where: str) -> Any:
    if name not in recorded:
        raise UserError(f"{where}: {name} is missing; there are {', '.join(recorded) or 'no fields'}")
    return recorded[name]


def _numbers(values: Any, where: str) -> Any:
    """An array of numbers with an axis of steps."""
    try:
        array = numpy.asarray(values)
    except ValueError:
        raise UserError(f"{where} has steps of unequal sizes") from None
    if array.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {array.dtype}, not numbers")
    if not array.ndim:
        raise UserError(f"{where} is one number, not one for each step")
    return array


def _check_equal_lengths(arrays: Mapping[str, Any], where: str) -> None:
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
        raise UserError(f"{where}: fields have unequal numbers of steps: {counts}")


def _check_lengths(offsets: Int64[Tensor, " episodes_and_1"], where: str, max_steps: int) -> None:
    lengths = offsets.diff()
    longest = int(lengths.argmax())
    if lengths[longest] > max_steps:
        problem = f"is less than the {int(lengths[longest])} steps of episode {longest} of {where}"
        raise InvalidValue("max_steps", max_steps, problem, str(int(lengths[longest])))


def _actions(
    values: Any, offsets: Int64[Tensor, " episodes_and_1"], where: str, num_actions: int | None
) -> tuple[Tensor, int | None]:
    """Actions as tensors, and how many classes there are; None for numbers."""
    flat = values.reshape(len(values), -1)
    if values.dtype.kind == "f":
        if num_actions is not None:
            raise UserError(f"{where}: actions holds {values.dtype}; {num_actions} classes are integers")
        with numpy.errstate(over="ignore"):
            return torch.from_numpy(flat.astype(numpy.float32)), None
    if flat.shape[1] != 1:
        raise UserError(
            f"{where}: actions holds {flat.shape[1]} integers a step; a class is one, and numbers are floats"
        )
    classes = torch.from_numpy(flat[:, 0].astype(numpy.int64))
    count = int(classes.max()) + 1 if num_actions is None else num_actions
    wrong = ((classes < 0) | (classes >= count)).nonzero()[:, 0]
    if len(wrong):
        place = _place(int(wrong[0]), offsets, where)
        raise UserError(f"{place}: actions is {int(classes[wrong[0]])}, and must lie in 0..{count - 1}")
    return classes, count


def _check_finite(name: str, values: Tensor, offsets: Int64[Tensor, " episodes_and_1"], where: str) -> None:
    wrong = (~values.isfinite()).flatten(1).any(1) if values.dim() > 1 else ~values.isfinite()
    if wrong.any():
        steps = wrong.nonzero()[:, 0]
        found = values[steps[0]].flatten()
        number = float(found[~found.isfinite()][0])
        more = f", and so are {len(steps) - 1} steps more" if len(steps) > 1 else ""
        raise UserError(f"{_place(int(steps[0]), offsets, where)}: {name} is {number}{more}")


def _place(step: int, offsets: Int64[Tensor, " episodes_and_1"], where: str) -> str:
    episode = int(torch.searchsorted(offsets, step, right=True)) - 1
    return f"{where}, episode {episode}, step {step - int(offsets[episode])}"
