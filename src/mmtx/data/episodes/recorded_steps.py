"""Checks recorded steps, and concatenates them; an error names the episode and the field."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.data.episodes.episodes import Episodes
from mmtx.errors import InvalidValue, UserError

Recorded = Mapping[str, Any]
"""``observations actions rewards`` of the steps of one episode, or of many, concatenated, then with ``terminations``
and perhaps ``truncations``."""

LARGEST_STATE = 4096
"""Most numbers of an observation; more are a picture, not a vector."""

FIELDS = ("observations", "actions", "rewards")


def concatenate_episodes(
    recorded: Recorded | Sequence[Recorded], *, where: str, num_actions: int | None, max_steps: int
) -> Episodes:
    """All steps of all episodes, checked.

    Args:
        recorded: episodes one by one, or all their steps, concatenated.
        where: its name in an error.
        num_actions: classes of discrete actions; None: as many as occur.
        max_steps: of an episode.

    Raises:
        UserError: a field is missing, or has wrong values; with the episode and the field.
    """
    together = _cut(recorded, where) if isinstance(recorded, Mapping) else _joined(recorded, where)
    offsets = torch.from_numpy(together.pop("offsets"))
    _check_lengths(offsets, where, max_steps)
    arrays = {name: _numbers(array, f"{where}: {name}") for name, array in together.items()}
    actions, num_actions = _actions(arrays["actions"], offsets, where, num_actions)
    state = arrays["observations"].reshape(len(arrays["observations"]), -1)
    if not 1 <= state.shape[1] <= LARGEST_STATE:
        raise UserError(f"{where}: observations are {state.shape[1]:,} numbers each; vectors have 1..{LARGEST_STATE}")
    with numpy.errstate(over="ignore"):  # numbers that are too large become infinite, and are reported as such
        observations = torch.from_numpy(state.astype(numpy.float32))
    rewards = torch.from_numpy(_one_per_step(arrays["rewards"], f"{where}: rewards").astype(numpy.float64))
    for name, values in (("observations", observations), ("rewards", rewards), ("actions", actions)):
        _check_finite(name, values, offsets, where)
    return Episodes(observations, actions, rewards, offsets, num_actions)


def _joined(recorded: Sequence[Recorded], where: str) -> dict[str, Any]:
    """Concatenates episodes that were recorded one by one."""
    if not recorded:
        raise UserError(f"{where} has no episodes")
    parts: dict[str, list[Any]] = {name: [] for name in FIELDS}
    lengths = []
    for number, episode in enumerate(recorded):
        place = f"{where}, episode {number}"
        arrays = {name: _numbers(_field(episode, name, place), f"{place}: {name}") for name in FIELDS}
        steps = len(arrays["rewards"])
        if len(arrays["observations"]) == steps + 1:  # the last is from after the last step
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
    """Steps that were recorded together, with the offsets of the episodes."""
    arrays = {name: numpy.asarray(_field(recorded, name, where)) for name in (*FIELDS, "terminations")}
    if "truncations" in recorded:
        arrays["truncations"] = numpy.asarray(recorded["truncations"])
    _check_equal_lengths(arrays, where)
    ends = numpy.zeros(len(arrays["rewards"]), dtype=bool)
    for name in ("terminations", "truncations"):
        if name in arrays:
            ends |= _flags(arrays.pop(name), f"{where}: {name}")
    if not len(ends):
        raise UserError(f"{where} is empty: rewards has no steps")
    last = numpy.flatnonzero(ends)
    if not len(last):
        raise UserError(f"{where}: terminations and truncations are false at every step, so that no episode ends")
    stop = last[-1] + 1  # the return of an episode that is cut off by the end of the data is unknown
    return {name: array[:stop] for name, array in arrays.items()} | {"offsets": numpy.array([0, *(last + 1)])}


def _field(recorded: Recorded, name: str, where: str) -> Any:
    if name not in recorded:
        raise UserError(f"{where}: {name} is missing; there are {', '.join(recorded) or 'no fields'}")
    return recorded[name]


def _numbers(values: Any, where: str) -> Any:
    """An array of numbers whose first axis is the steps."""
    try:
        array = numpy.asarray(values)
    except ValueError:
        raise UserError(f"{where} has steps of unequal sizes") from None
    if array.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {array.dtype}, not numbers")
    if not array.ndim:
        raise UserError(f"{where} is one number, not one for each step")
    return array


def _one_per_step(values: Any, where: str) -> Any:
    """An array with one number for each step."""
    array = _numbers(values, where)
    if array.size != len(array):
        raise UserError(f"{where} has the shape {array.shape[1:]} a step; it is one number")
    return array.reshape(-1)


def _flags(values: Any, where: str) -> Any:
    """A boolean for each step."""
    array = _one_per_step(values, where)
    other = numpy.flatnonzero((array != 0) & (array != 1))
    if len(other):
        raise UserError(f"{where} is {array[other[0]]} at step {other[0]}; it is 0 or 1, false or true")
    return array.astype(bool)


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
    """Actions as a tensor, and the number of classes; None for numbers."""
    flat = values.reshape(len(values), -1)
    if not flat.shape[1]:
        raise UserError(f"{where}: actions holds no numbers, and must hold one a step or more")
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
    count = max(1, int(classes.max()) + 1) if num_actions is None else num_actions
    wrong = ((classes < 0) | (classes >= count)).nonzero()[:, 0]
    if len(wrong):
        step = _step_name(int(wrong[0]), offsets, where)
        raise UserError(f"{step}: actions is {int(classes[wrong[0]])}, and must lie in 0..{count - 1}")
    return classes, count


def _check_finite(name: str, values: Tensor, offsets: Int64[Tensor, " episodes_and_1"], where: str) -> None:
    wrong = (~values.isfinite()).flatten(1).any(1) if values.dim() > 1 else ~values.isfinite()
    if wrong.any():
        steps = wrong.nonzero()[:, 0]
        found = values[steps[0]].flatten()
        number = float(found[~found.isfinite()][0])
        more = f", and so are {len(steps) - 1} steps more" if len(steps) > 1 else ""
        raise UserError(f"{_step_name(int(steps[0]), offsets, where)}: {name} is {number}{more}")


def _step_name(step: int, offsets: Int64[Tensor, " episodes_and_1"], where: str) -> str:
    episode = int(torch.searchsorted(offsets, step, right=True)) - 1
    return f"{where}, episode {episode}, step {step - int(offsets[episode])}"
