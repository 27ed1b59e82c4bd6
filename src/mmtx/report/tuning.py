"""The best learning rate of every combination of the other axes, and whether the rates that were tried enclose it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mmtx.report.comparison import Comparison, Setting, number, rounded, short
from mmtx.report.table import Rows, spread

RATE = "optim.lr"


@dataclass(frozen=True)
class Tuned:
    """One combination of the axes other than the learning rate.

    Attributes:
        others: the values of these axes.
        settings: of it, by rising rates.
        best: of these; of several that are equally good, one that others enclose.
    """

    others: dict[str, str]
    settings: tuple[Setting, ...]
    best: Setting

    @property
    def label(self) -> str:
        return " ".join(f"{short(axis)}={rounded(value)}" for axis, value in self.others.items()) or "all runs"

    @property
    def end(self) -> str:
        """The end of the rates that the best one is at: lowest or highest; empty where others enclose it."""
        if self.best is self.settings[0]:
            return "lowest"
        return "highest" if self.best is self.settings[-1] else ""

    @property
    def vertex(self) -> float | None:
        """The rate where a parabola through the best and its neighbours is best; None at an end."""
        if self.end:
            return None
        place = next(place for place, setting in enumerate(self.settings) if setting is self.best)
        three = self.settings[place - 1 : place + 2]
        (x0, y0), (x1, y1), (x2, y2) = ((math.log(rate_of(setting)), setting.mean) for setting in three)
        left, right = (x1 - x0) * (y1 - y2), (x1 - x2) * (y1 - y0)
        return math.exp(x1 - ((x1 - x0) * left - (x1 - x2) * right) / (2 * (left - right))) if left != right else None


def rate_of(setting: Setting) -> float:
    return number(setting.values[RATE]) or 0.0


def tuned(comparison: Comparison) -> list[Tuned]:
    """Every combination of the other axes, in the order of the runs; where no rate is swept, each setting by itself."""
    grouped: dict[tuple[tuple[str, str], ...], list[Setting]] = {}
    for setting in comparison.settings:  # the best first
        others = tuple((axis, value) for axis, value in setting.values.items() if axis != RATE)
        grouped.setdefault(others, []).append(setting)
    order = {tuple(axis_values(of_run, comparison)): place for place, of_run in enumerate(comparison.values[::-1])}
    found = [_tuned(dict(others), settings, has_rates(comparison)) for others, settings in grouped.items()]
    return sorted(found, key=lambda each: -order[tuple(each.others.items())])


def _tuned(others: dict[str, str], settings: list[Setting], by_rate: bool) -> Tuned:
    if not by_rate:
        return Tuned(others, tuple(settings), settings[0])
    rising = sorted(settings, key=rate_of)
    equal = [setting for setting in rising if setting.mean == settings[0].mean]
    enclosed = [setting for setting in equal if setting not in (rising[0], rising[-1])] or equal
    return Tuned(others, tuple(rising), enclosed[len(enclosed) // 2])


def axis_values(of_run: dict[str, str], comparison: Comparison) -> Iterator[tuple[str, str]]:
    """The axes but the rate, with their values in one run."""
    return ((axis, of_run.get(axis, "")) for axis in comparison.axes if axis != RATE)


def has_rates(comparison: Comparison) -> bool:
    """Whether numbers of the learning rate were swept beside something else."""
    rates = {setting.values.get(RATE, "") for setting in comparison.settings}
    return len(comparison.axes) > 1 and len(rates) > 1 and all((number(rate) or 0.0) > 0 for rate in rates)


def tuning_table(found: list[Tuned], comparison: Comparison) -> tuple[list[str], Rows]:
    """Head and rows: the best rate of each combination, and what it reaches."""
    others = [axis for axis in comparison.axes if axis != RATE]
    rows = [
        [
            *(rounded(each.others[axis]) for axis in others),
            rounded(each.best.values[RATE]),
            "" if each.vertex is None else f"{each.vertex:.2g}",
            spread(each.best.scores),
            str(len(each.best.scores)),
            f"{rounded(each.settings[0].values[RATE])} to {rounded(each.settings[-1].values[RATE])}",
            f"at the {each.end} rate tried" if each.end else "",
        ]
        for each in found
    ]
    return [*others, RATE, "vertex", comparison.metric, "n", "tried", ""], rows
