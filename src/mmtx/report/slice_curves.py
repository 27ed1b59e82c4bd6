"""Metrics of slices that are named by numbers, such as lengths: quality against length."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mmtx.report.comparison import Comparison, Setting

SLICE = re.compile(r"(?P<metric>.+)/(?P<name>[^/=]+)=(?P<number>\d+)")
"""``test/accuracy/length=80``."""


@dataclass(frozen=True)
class SliceCurves:
    """A metric against the numbers by which its slices are named, for each setting.

    Attributes:
        metric: such as ``test/accuracy``.
        name: of the data, whose classes are the slices.
        numbers: of the slices, rising.
        curves: of each setting, the best first: (number, mean over its seeds) where it has any.
    """

    metric: str
    name: str
    numbers: tuple[int, ...]
    curves: dict[str, list[tuple[int, float]]]


def slice_curves(comparison: Comparison) -> list[SliceCurves]:
    """Of every metric that has two such slices or more, in the order of their names."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for run in (run for setting in comparison.settings for run in setting.runs):
        for found in filter(None, map(SLICE.fullmatch, run.metrics)):
            numbers.setdefault((found["metric"], found["name"]), set()).add(int(found["number"]))
    several = sorted((key, tuple(sorted(own))) for key, own in numbers.items() if len(own) > 1)
    return [
        SliceCurves(metric, name, own, {s.label: _curve(s, metric, name, own) for s in comparison.settings})
        for (metric, name), own in several
    ]


def _curve(setting: Setting, metric: str, name: str, numbers: Sequence[int]) -> list[tuple[int, float]]:
    points = []
    for number in numbers:
        key = f"{metric}/{name}={number}"
        scores = [run.metrics[key] for run in setting.runs if key in run.metrics]
        if scores:
            points.append((number, statistics.fmean(scores)))
    return points
