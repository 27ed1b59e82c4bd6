"""The search space, in Hydra's syntax for sweeps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.config.groups import group_options
from mmtx.config.overrides import MOST_VALUES, range_length, read_all, sweep_values
from mmtx.errors import ConfigErrors


@dataclass(frozen=True)
class Axis:
    """The values that a key may have.

    Attributes:
        key: of the config, as it is typed.
        choices: as they are typed; empty: numbers from `low` to `high`, integers if these are.
        low: least number.
        high: greatest.
        step: between numbers; None: any between.
        log: evenly on a logarithmic scale.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        return self.choices or (str(self.low), str(self.high))


def search_space(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The fixed overrides, and an axis for each other one: ``1,2``, ``choice(...)``, ``range(...)``,
    ``interval(...)``, with ``tag(log,...)`` and ``int(...)`` around it.

    Raises:
        ConfigErrors: with every override that is no axis, or as there is none.
    """
    fixed, axes, found = [], [], []
    for override in read_all(overrides):
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
            continue
        try:
            axes.append(_axis(override.get_key_element(), override))
        except ValueError as error:
            found.append(f"{override.input_line} {error}")
    if not axes and not found:
        found.append("there is nothing to search: give an override a range, such as optim.lr=interval(1e-4,1e-2)")
    if found:
        raise ConfigErrors(found)
    return fixed, axes


def ends(axes: Sequence[Axis]) -> Iterator[list[str]]:
    """Sweeps that cover every end and every choice of every axis, each with the other axes at their first value."""
    for axis in axes:
        yield [f"{each.key}={','.join(each.ends) if each is axis else each.ends[0]}" for each in axes]


def _axis(key: str, override: Any) -> Axis:
    """Raises ValueError if the override is no axis."""
    values = override.value()
    if override.is_choice_sweep():
        if getattr(values, "tags", None):
            raise ValueError(f"has the tag {min(values.tags)}; a search knows log and int, and none of choices")
        return Axis(key, choices=tuple(sweep_values(override, group_options)))
    unknown = values.tags - {"log", "int"}
    if unknown:
        raise ValueError(f"has the tag {min(unknown)}; a search knows log and int")
    step, log = None, "log" in values.tags
    if override.is_range_sweep():
        low, high, step = *_ends(values), abs(values.step)
    else:
        low, high = (int(values.start), int(values.end)) if "int" in values.tags else (values.start, values.end)
    if not low < high or not all(map(math.isfinite, (low, high))):
        raise ValueError("must go from a number to a greater one")
    if log and (low <= 0 or step not in (None, 1)):
        raise ValueError("cannot be on a logarithmic scale: that needs numbers above 0, and no step")
    return Axis(key, low=low, high=high, step=step, log=log)


def _ends(values: Any) -> tuple[int | float, int | float]:
    """Least and greatest number of a range. Raises ValueError where it has none, or too many to count."""
    count, numbers = range_length(values), values.range()
    if not count or (count > MOST_VALUES and not isinstance(numbers, range)):
        raise ValueError(f"has {count or 'no'} values; between 1 and {MOST_VALUES} can be counted")
    numbers = numbers if isinstance(numbers, range) else list(numbers)
    return min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
