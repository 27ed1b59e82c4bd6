"""Runs side by side: what sets them apart, and how well each combination did over its seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.directions import DECLARE, KNOWN, Direction, direction_of
from mmtx.errors import InvalidValue, nearest
from mmtx.run.run_record import RunRecord

SEED = "seed"
NAMED_GROUPS = ("modality", "objective")
"""Groups of which several may be chosen: what is chosen is the list of their names."""
UNINTERESTING = ("run_dir", "logger", "callbacks", "checkpoint")
MOST_COLUMNS = 5


@dataclass(frozen=True)
class Setting:
    """One combination of values, over its seeds.

    Attributes:
        values: the value of each axis, as it was typed.
        runs: the finished runs.
        scores: their values of the metric.
    """

    values: dict[str, str]
    runs: tuple[RunRecord, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def sd(self) -> float | None:
        """The standard deviation of a sample (n - 1); None of a single run."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def label(self) -> str:
        return " ".join(f"{short(axis)}={rounded(value)}" for axis, value in self.values.items()) or "all runs"


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        records: every run, whatever became of it.
        values: what sets each run apart from the others, the seed among it, in the order of `records`.
        axes: the keys that differ, without the seed.
        metric: what settings are sorted by.
        maximise: whether more of it is better.
        settings: the best first; only finished runs count.
        columns: other metrics that are worth a column.
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
        """Every run that is not in `settings`, with what sets it apart."""
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


def compare(records: Sequence[RunRecord], metric: Any, mode: Any) -> Comparison:
    """Compares runs by a metric.

    Args:
        records: of any number of sweeps.
        metric: None: what ``best.ckpt`` was chosen by.
        mode: ``max`` or ``min``, where the metric declares neither; None: as it declares.

    Raises:
        InvalidValue: no run has logged such a metric; `mode` is neither, contradicts what is declared, or is not given
            where nothing is.
    """
    if mode not in (None, "min", "max"):
        raise InvalidValue("mode", mode, "is neither min nor max")
    monitored = _monitored(records)
    known = {name for record in records for row in (*record.rows, record.metrics) for name in row} - {"step", "time"}
    if metric is not None and not isinstance(metric, str):
        raise InvalidValue("metric", metric, "is not the name of a metric")
    if metric is not None and known and metric not in known:
        raise InvalidValue("metric", metric, f"was not logged; {nearest(metric, known)}")
    metric = metric or (monitored[0] if monitored else "val/loss")
    maximise = _direction(records, metric, mode, monitored) == "max"
    values = _values(records)
    axes = tuple(dict.fromkeys(axis for of_run in values for axis in of_run if axis != SEED))
    settings = _settings(records, values, axes, metric)
    settings.sort(key=lambda setting: setting.mean, reverse=maximise)
    columns = _columns(settings, metric)
    return Comparison(tuple(records), tuple(values), axes, metric, maximise, tuple(settings), columns)


def short(axis: str) -> str:
    """``optim.lr`` -> ``lr``; ``backbone/mlp`` -> ``mlp``."""
    return axis.replace("/", ".").rpartition(".")[2]


def rounded(value: str) -> str:
    """What a search has drawn comes with sixteen digits; what was typed stays as it is."""
    try:
        return value if len(value) < 9 else f"{float(value):.4g}"
    except ValueError:
        return value


def number(value: str) -> float | None:
    """What a value says, if it is a number."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def in_order(values: Sequence[str]) -> list[str]:
    """Each value once: numbers by size, anything else as it came."""
    once = list(dict.fromkeys(values))
    numbers = {value: number(value) for value in once}
    if None in numbers.values():
        return once
    return sorted(once, key=lambda value: numbers[value] or 0.0)


def _direction(
    records: Sequence[RunRecord], metric: str, mode: str | None, monitored: tuple[str, str | None] | None
) -> Direction:
    """As the runs declare it; where they declare nothing, as it is given."""
    declared = {record.directions[metric] for record in records if metric in record.directions}
    if len(declared) > 1:
        raise InvalidValue("metric", metric, "is declared in different ways by these runs; report them one by one")
    if not declared and not any(record.directions for record in records):
        declared = _of_older_runs(metric)
    if not declared and mode is None:
        hint = f"{DECLARE}; for this report, say mode=max or mode=min"
        raise InvalidValue("metric", metric, f"is declared by nothing in these runs; {hint}")
    if mode is None and monitored is not None and metric == monitored[0] and declared == {None}:
        mode = monitored[1]
    return direction_of(metric, mode, {metric: next(iter(declared), None)}, keys=("metric", "mode"))


def _of_older_runs(metric: str) -> set[Direction | None]:
    """Of runs that began before they wrote down what their metrics declare."""
    names = metric.split("/")
    counted = names[:1] == ["train"] and names[1:2] != names[-1:] and names[1] in KNOWN  # of a name of the set
    name = names[1] if counted else names[-1]
    return {KNOWN[name]} if name in KNOWN else set()


def _monitored(records: Sequence[RunRecord]) -> tuple[str, str | None] | None:
    """What most runs choose their best checkpoint by, and the mode that they give for it."""
    nodes = [record.config.get("checkpoint") or {} for record in records]
    counted = Counter((node["monitor"], node.get("mode")) for node in nodes if node.get("monitor"))
    return counted.most_common(1)[0][0] if counted else None


def _values(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Within one sweep, the overrides of each job; else where the configs differ."""
    sweeps = {record.path.parent if record.sweep else None for record in records}
    if len(sweeps) == 1 and None not in sweeps:
        return [dict(_split(override) for override in record.overrides) for record in records]
    flat = [dict(_leaves(record.config)) for record in records]
    shared = set.intersection(*(set(config) for config in flat if config)) if any(flat) else set()
    differing = [key for key in next((c for c in flat if c), {}) if key in shared]
    differing = [key for key in differing if len({config[key] for config in flat if config}) > 1]
    return [
        {key: config[key] for key in differing} if config else _from_overrides(record, differing)
        for config, record in zip(flat, records, strict=True)
    ]


def _from_overrides(record: RunRecord, keys: Sequence[str]) -> dict[str, str]:
    """A job that never began has no config, but it has its overrides."""
    own = dict(_split(override) for override in record.overrides)
    return {key: own.get(key, "?") for key in keys}


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+"), value


def _leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of a config; of groups that hold several nodes also the list of their names."""
    for key, value in node.items():
        where = f"{path}.{key}" if path else key
        if where in UNINTERESTING:
            continue
        if isinstance(value, Mapping) and value:
            if where in NAMED_GROUPS:
                yield where, f"[{','.join(value)}]"
            yield from _leaves(value, where)
        else:
            yield where, str(value)


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
    """Validation and test metrics of the whole, not of its parts; those of the same kind first."""
    names = {name for setting in settings for run in setting.runs for name in run.metrics}
    whole = [
        name for name in names if name != metric and name.split("/")[0] in ("val", "test") and name.count("/") == 1
    ]
    kind = metric.rpartition("/")[2]
    return tuple(sorted(whole, key=lambda name: (name.rpartition("/")[2] != kind, name)))[:MOST_COLUMNS]
