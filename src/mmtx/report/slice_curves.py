"""Metrics of slices that are named by numbers, such as lengths: quality against length."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmtx.report.comparison import Setting

SLICE = re.compile(r"(?P<metric>.+)/(?P<name>[^/=]+)=(?P<number>\d+)")
"""``test/accuracy/length=80``."""

BESIDE = re.compile(r"(?P<metric>.+)/of=(?P<estimator>[^/=]+)")
"""``test/squared_error/of=ridge``, what another estimator reaches."""

ERROR = "/standard_error"
"""``test/squared_error/standard_error/examples=5``, that of a metric over samples."""

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class SliceCurves:
    """A metric against the numbers by which its slices are named, for each setting.

    Attributes:
        metric: such as ``test/accuracy``.
        name: of the data, whose classes are the slices.
        numbers: of the slices, rising.
        curves: of each setting, the best first: (number, mean over its seeds) where it has any.
        errors: of each setting, the standard errors over samples that its runs give, by number.
        lines: of other estimators, once where they are the same in all settings.
        task: that these settings are for, where there are several.
    """

    metric: str
    name: str
    numbers: tuple[int, ...]
    curves: dict[str, Points]
    errors: dict[str, dict[int, float]]
    lines: dict[str, Points]
    task: str = ""

    @property
    def heading(self) -> str:
        return f"{self.metric} by {self.name}" + (f" ({self.task})" if self.task else "")


def slice_curves(settings: Mapping[str, Setting], task: str = "") -> list[SliceCurves]:
    """Of every metric that has two such slices or more, in the order of their names.

    Args:
        settings: by their labels, the best first.
        task: that they are for, where there are several.
    """
    numbers: dict[tuple[str, str], set[int]] = {}
    for found in filter(None, map(SLICE.fullmatch, _metrics(settings.values()))):
        if not (BESIDE.fullmatch(found["metric"]) or found["metric"].endswith(ERROR)):
            numbers.setdefault((found["metric"], found["name"]), set()).add(int(found["number"]))
    several = sorted((key, tuple(sorted(own))) for key, own in numbers.items() if len(own) > 1)
    return [_curves(settings, task, metric, name, own) for (metric, name), own in several]


def estimators_beside(settings: Iterable[Setting], metric: str) -> list[str]:
    """Those of which runs have this metric too, in the order of their names."""
    found = filter(None, map(BESIDE.fullmatch, _metrics(settings)))
    return sorted({each["estimator"] for each in found if each["metric"] == metric})


def _metrics(settings: Iterable[Setting]) -> Iterable[str]:
    return {name for setting in settings for run in setting.runs for name in run.metrics}


def _curves(
    settings: Mapping[str, Setting], task: str, metric: str, name: str, numbers: tuple[int, ...]
) -> SliceCurves:
    def of_settings(own: str) -> dict[str, Points]:
        return {label: _curve(setting, own, name, numbers) for label, setting in settings.items()}

    lines: dict[str, Points] = {}
    for estimator in estimators_beside(settings.values(), metric):
        of_each = {label: points for label, points in of_settings(f"{metric}/of={estimator}").items() if points}
        several = list(of_each.values())
        same = all(_equal(several[0], other) for other in several)
        lines |= {estimator: several[0]} if same and several else {f"{estimator}, {k}": v for k, v in of_each.items()}
    errors = {label: dict(points) for label, points in of_settings(metric + ERROR).items()}
    return SliceCurves(metric, name, numbers, of_settings(metric), errors, lines, task)


def _equal(one: Points, other: Points) -> bool:
    """Up to rounding."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-6) for a, b in pairs)


def _curve(setting: Setting, metric: str, name: str, numbers: Sequence[int]) -> Points:
    points = []
    for number in numbers:
        key = f"{metric}/{name}={number}"
        scores = [run.metrics[key] for run in setting.runs if key in run.metrics]
        if scores:
            points.append((number, statistics.fmean(scores)))
    return points
