"""Comparison of runs: the values in which they differ, and the score of each combination over its seeds."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.errors import InvalidValue, nearest
from mmtx.metric_directions import DECLARE, KNOWN, Direction, direction_of
from mmtx.report.setting_values import SEED, values_of
from mmtx.run.run_record import RunRecord

MOST_COLUMNS = 5


@dataclass(frozen=True)
class Setting:
    """One combination of values, with its runs.

    Attributes:
        values: of each axis, as typed.
        runs: the finished runs, one for each seed.
        scores: the metric of each run.
    """

    values: dict[str, str]
    runs: tuple[RunRecord, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def sd(self) -> float | None:
        """The sample standard deviation (n - 1); None for a single run."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def label(self) -> str:
        return " ".join(f"{short(axis)}={rounded(value)}" for axis, value in self.values.items()) or "all runs"


@dataclass(frozen=True)
class Comparison:
    """The compared runs.

    Attributes:
        records: all runs, whatever their state.
        values: ``{key: value}`` in which each of `records` differs from the others, the seed included.
        axes: the keys that differ, without the seed.
        metric: by which settings are sorted.
        maximise: whether a higher metric is better.
        settings: of finished runs, the best first.
        columns: other metrics that are shown.
    """

    records: tuple[RunRecord, ...]
    values: tuple[dict[str, str], ...]
    axes: tuple[str, ...]
    metric: str
    maximise: bool
    settings: tuple[Setting, ...]
    columns: tuple[str, ...]

    @property
    def unfinished(self) -> list[tuple[RunRecord, dict[str, str]]]:
        """Every run that is not in `settings`, with its values."""
        ranked = {run.path for setting in self.settings for run in setting.runs}
        pairs = zip(self.records, self.values, strict=True)
        return [(record, values) for record, values in pairs if record.path not in ranked]

    @property
    def best_run(self) -> RunRecord | None:
        """The best run of the best setting."""
        if not self.settings:
            return None
        choose = max if self.maximise else min
        return choose(self.settings[0].runs, key=lambda run: run.metrics[self.metric])

    @property
    def losses_differ(self) -> bool:
        """Whether the metric is a sum of losses that ranked runs compute by different objectives."""
        objectives = [run.config.get("objective") for setting in self.settings for run in setting.runs]
        return self.metric.rpartition("/")[2] == "loss" and any(other != objectives[0] for other in objectives)

    @property
    def shared_columns(self) -> list[str]:
        """The columns that every ranked run has, and that are no sum of losses."""
        runs = [run for setting in self.settings for run in setting.runs]
        usable = [name for name in self.columns if name.rpartition("/")[2] != "loss"]
        return [name for name in usable if all(name in run.metrics for run in runs)]


def compare(records: Sequence[RunRecord], metric: Any, mode: Any) -> Comparison:
    """Compares runs by a metric.

    Args:
        records: of any number of sweeps.
        metric: its name; None: that of ``best.ckpt``.
        mode: ``max`` or ``min``, where the metric declares neither; None: as declared.

    Raises:
        InvalidValue: no run has logged this metric; `mode` is neither, contradicts the declared one, or is missing
            where none is declared.
    """
    if mode not in (None, "min", "max"):
        raise InvalidValue("mode", mode, "is neither min nor max")
    monitored = _monitored(records)
    logged = {name for record in records for row in (*record.rows, record.metrics) for name in row} - {"step", "time"}
    if metric is not None and not isinstance(metric, str):
        raise InvalidValue("metric", metric, "is not the name of a metric")
    if metric is not None and logged and metric not in logged:
        raise InvalidValue("metric", metric, f"was not logged; {nearest(metric, logged)}")
    metric = metric or (monitored[0] if monitored else "val/loss")
    maximise = _direction(records, metric, mode, monitored) == "max"
    values = values_of(records)
    axes = tuple(dict.fromkeys(axis for of_run in values for axis in of_run if axis != SEED))
    settings = _settings(records, values, axes, metric)
    settings.sort(key=lambda setting: setting.mean, reverse=maximise)
    columns = _columns(settings, metric)
    return Comparison(tuple(records), tuple(values), axes, metric, maximise, tuple(settings), columns)


def short(axis: str) -> str:
    """``optim.lr`` -> ``lr``; ``backbone/mlp`` and ``backbone.mlp._target_`` -> ``mlp``: matplotlib leaves what begins
    with an underscore out of legends."""
    return axis.replace("/", ".").removesuffix("._target_").rpartition(".")[2]


def rounded(value: str) -> str:
    """A value of a search, with its sixteen digits, rounded to four; other values are unchanged."""
    try:
        return value if len(value) < 9 else f"{float(value):.4g}"
    except ValueError:
        return value


def number(value: str) -> float | None:
    """The value as a finite number; None if it is none."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def in_order(values: Sequence[str]) -> list[str]:
    """Each value once: numbers by size, others in their order."""
    once = list(dict.fromkeys(values))
    numbers = {value: number(value) for value in once}
    if None in numbers.values():
        return once
    return sorted(once, key=lambda value: numbers[value] or 0.0)


def _direction(
    records: Sequence[RunRecord], metric: str, mode: str | None, monitored: tuple[str, str | None] | None
) -> Direction:
    """The direction that the runs declare, or else `mode`."""
    declared = {record.directions[metric] for record in records if metric in record.directions}
    if len(declared) > 1:
        raise InvalidValue("metric", metric, "is declared in different ways by these runs; report them one by one")
    if not declared and not any(record.directions for record in records):
        declared = _of_older_runs(metric)
    if not declared and mode is None:
        hint = f"{DECLARE}; for this report, give mode=max or mode=min"
        raise InvalidValue("metric", metric, f"is declared by nothing in these runs; {hint}")
    if mode is None and monitored is not None and metric == monitored[0] and declared == {None}:
        mode = monitored[1]
    return direction_of(metric, mode, {metric: next(iter(declared), None)}, keys=("metric", "mode"))


def _of_older_runs(metric: str) -> set[Direction | None]:
    """The direction of a metric of runs from before directions were recorded."""
    names = metric.split("/")
    counted = names[:1] == ["train"] and names[1:2] != names[-1:] and names[1] in KNOWN  # counted for one modality
    name = names[1] if counted else names[-1]
    return {KNOWN[name]} if name in KNOWN else set()


def _monitored(records: Sequence[RunRecord]) -> tuple[str, str | None] | None:
    """The metric by which most runs choose their best checkpoint, and its mode."""
    nodes = [record.config.get("checkpoint") or {} for record in records]
    counted = Counter((node["monitor"], node.get("mode")) for node in nodes if node.get("monitor"))
    return counted.most_common(1)[0][0] if counted else None


def _settings(
    records: Sequence[RunRecord], values: Sequence[dict[str, str]], axes: Sequence[str], metric: str
) -> list[Setting]:
    grouped: dict[tuple[str, ...], list[RunRecord]] = {}
    for record, of_run in zip(records, values, strict=True):
        if record.state == "finished" and metric in record.metrics:
            grouped.setdefault(tuple(of_run.get(axis, "") for axis in axes), []).append(record)
    return [
        Setting(dict(zip(axes, key, strict=True)), tuple(runs), tuple(run.metrics[metric] for run in runs))
        for key, runs in grouped.items()
    ]


def _columns(settings: Sequence[Setting], metric: str) -> tuple[str, ...]:
    """Validation and test metrics that are not of one objective or part; those of the same kind first."""
    names = {name for setting in settings for run in setting.runs for name in run.metrics}
    whole = [
        name for name in names if name != metric and name.split("/")[0] in ("val", "test") and name.count("/") == 1
    ]
    kind = metric.rpartition("/")[2]
    return tuple(sorted(whole, key=lambda name: (name.rpartition("/")[2] != kind, name)))[:MOST_COLUMNS]
