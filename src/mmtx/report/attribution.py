"""The gain of each modality, from a sweep over ``modality=``.

Runs on every non-empty subset S give v(S), the metric. A modality's gain is the average, over all orders in which
modalities can be added, of what adding it changed: its Shapley value (Shapley 1953, "A value for n-person games").

The first one in an order is added to nothing, and no run is trained on nothing. Where the user gives v(nothing), such
as chance, the values are Shapley's, and their sum is v(all) - v(nothing). Otherwise first steps are left out of the
average, and a gain is what a modality adds to a non-empty set. Another v(nothing) would shift every Shapley value
alike, so it does not change the order of the modalities.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from mmtx.report.comparison import SEED, Comparison, Setting

AXIS = "modality"

Subset = frozenset[str]


@dataclass(frozen=True)
class Attribution:
    """The gains at one combination of the other axes.

    Attributes:
        names: of the modalities, in the order of the largest subset.
        subsets: the runs of each subset, the smallest subset first.
        missing: subsets without a finished run; gains need all of them.
        gains: mean and standard deviation over seeds, positive where a modality helps; None if any subset is missing.
            The deviation is None unless every subset has the same seeds, at least two.
        empty: the metric without any modality; None: first steps are left out.
        setting: the values of the other axes.
    """

    names: tuple[str, ...]
    subsets: dict[Subset, Setting]
    missing: tuple[Subset, ...]
    gains: dict[str, tuple[float, float | None]] | None
    empty: float | None
    setting: dict[str, str]


def attributions(comparison: Comparison, empty: float | None) -> list[Attribution]:
    """One attribution for each combination of the other axes; none if the modalities were not swept."""
    if AXIS not in comparison.axes:
        return []
    grouped: dict[tuple[tuple[str, str], ...], list[Setting]] = {}
    for setting in comparison.settings:
        others = tuple((axis, value) for axis, value in setting.values.items() if axis != AXIS)
        grouped.setdefault(others, []).append(setting)
    return [_attribute(settings, dict(others), comparison.maximise, empty) for others, settings in grouped.items()]


def read_subset(value: str) -> tuple[str, ...]:
    """``[image,audio]`` -> its names."""
    return tuple(name.strip(" '\"") for name in value.strip("[] ").split(",") if name.strip())


def shapley(values: Mapping[Subset, float], names: Sequence[str], empty: float | None) -> dict[str, float]:
    """The gain of each name.

    Args:
        values: v(S) for every non-empty subset of `names`.
        names: the players.
        empty: v(nothing); None: steps from nothing are left out of the average.
    """
    gains = {}
    for name in names:
        others = [other for other in names if other != name]
        total, steps = 0.0, 0.0
        for size in range(len(names)):
            if size == 0 and empty is None:
                continue
            weight = 1 / (len(names) * comb(len(names) - 1, size))
            for before in map(frozenset, combinations(others, size)):
                value_before = values[before] if before else empty
                assert value_before is not None
                total += weight * (values[before | {name}] - value_before)
                steps += weight
        gains[name] = total / steps if steps else 0.0
    return gains


def all_subsets(names: Sequence[str]) -> list[Subset]:
    """All non-empty subsets, the smallest first."""
    return [frozenset(chosen) for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def _attribute(settings: Sequence[Setting], others: dict[str, str], maximise: bool, empty: float | None) -> Attribution:
    lists = sorted((read_subset(setting.values[AXIS]) for setting in settings), key=len, reverse=True)
    names = tuple(dict.fromkeys(name for names in lists for name in names))
    by_subset: dict[Subset, Setting] = {}
    for setting in settings:
        subset = frozenset(read_subset(setting.values[AXIS]))
        same = by_subset.get(subset)  # in another order
        by_subset[subset] = setting if same is None else _joined(same, setting)
    ordered = {subset: by_subset[subset] for subset in all_subsets(names) if subset in by_subset}
    missing = tuple(subset for subset in all_subsets(names) if subset not in by_subset)
    gains = None if missing or len(names) < 2 else _gains(ordered, names, 1.0 if maximise else -1.0, empty)
    return Attribution(names, ordered, missing, gains, empty, others)


def _joined(first: Setting, second: Setting) -> Setting:
    return Setting(first.values, first.runs + second.runs, first.scores + second.scores)


def _gains(
    subsets: Mapping[Subset, Setting], names: Sequence[str], sign: float, empty: float | None
) -> dict[str, tuple[float, float | None]]:
    means = shapley({subset: setting.mean for subset, setting in subsets.items()}, names, empty)
    by_seed = _by_seed(subsets)
    each = [shapley(values, names, empty) for values in by_seed]
    return {
        name: (sign * means[name], statistics.stdev(gains[name] for gains in each) if len(each) > 1 else None)
        for name in names
    }


def _by_seed(subsets: Mapping[Subset, Setting]) -> list[dict[Subset, float]]:
    """v(S) of each seed, if every subset was trained with the same seeds."""
    scores = {
        subset: dict(zip((run.config.get(SEED) for run in setting.runs), setting.scores, strict=True))
        for subset, setting in subsets.items()
    }
    seeds = [set(of_subset) for of_subset in scores.values()]
    if any(of_subset != seeds[0] for of_subset in seeds) or any(
        len(setting.runs) != len(seeds[0]) for setting in subsets.values()
    ):
        return []
    return [{subset: of_subset[seed] for subset, of_subset in scores.items()} for seed in seeds[0]]
