"""Runs as their directories record them, read as they are: half written, in progress, or lost."""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtx.config.migrations import migrated_config, migrated_sweep
from mmtx.config.plain_yaml import read_yaml
from mmtx.errors import UserError
from mmtx.metric_directions import Direction
from mmtx.process.stopping import track
from mmtx.run.directory import RunDirectory

MANIFEST = "sweep.json"
TOKENS = "train/tokens/"
SILENT_SECONDS = 120.0
"""A run whose process is not on this machine may be on another: it is given up after so long without a line."""


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        path: its directory, which a job that never began does not have.
        config: the resolved config; empty if there is none.
        sweep: the manifest of the sweep that it is a job of.
        overrides: what sets it apart from the other jobs of its sweep.
        state: waiting, running, finished, failed, interrupted or pruned.
        reason: why it did not finish.
        rows: of metrics.jsonl, in order; what is not JSON is left out.
        metrics: the last value of each metric.
        directions: which way each metric is better; empty of a run that began before this was written down.
        num_parameters: of each role; empty of a run that began before this was written down.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] | None = None
    overrides: tuple[str, ...] = ()
    state: str = "waiting"
    reason: str | None = None
    rows: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    directions: dict[str, Direction | None] = field(default_factory=dict)
    num_parameters: dict[str, int] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """How far it came."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def num_tokens(self) -> float:
        """Real tokens of all steps, of all names of the set: the steps, times the mean over logged ones, which is exact
        where every step has as many."""
        logged = {row["step"]: row for row in self.rows if any(name.startswith(TOKENS) for name in row)}
        of_step = [sum(v for name, v in row.items() if name.startswith(TOKENS)) for row in logged.values()]
        return self.num_steps * sum(of_step) / len(of_step) if of_step else 0.0

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) by step; what was logged again after a resume replaces what was logged before."""
        values = {row["step"]: float(row[metric]) for row in self.rows if _is_value(row.get(metric))}
        return sorted(values.items())


def find_runs(places: Sequence[Path | str]) -> list[RunRecord]:
    """Every run in or below some directories, each once, in the order of their paths.

    Raises:
        UserError: a place does not exist, or nothing is in it.
    """
    found: dict[Path, RunRecord] = {}
    for place in places:
        path = Path(place).expanduser().absolute()
        if not path.is_dir():
            raise UserError(f"{place} is not a directory; give run directories or sweep directories")
        here = {record.path: record for record in track(_runs_below(path), "reading runs")}
        if not here:
            raise UserError(f"{place} holds no run (looked for config.yaml and {MANIFEST} in it and below)")
        found |= here
    return list(found.values())


def read_run(path: Path) -> RunRecord:
    """The run in one directory, as a job of the sweep above it if there is one."""
    manifest = migrated_sweep(read_json(path.parent / MANIFEST))
    job = next((job for job in _jobs(manifest) if job["name"] == path.name), None)
    return _read(path, manifest, job) if job else _read(path, None, {})


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none, or what is there is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def rows_of(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; what is incomplete or not JSON is left out."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _runs_below(path: Path) -> Iterator[RunRecord]:
    manifest = migrated_sweep(read_json(path / MANIFEST))
    if manifest:
        for job in _jobs(manifest):
            yield _read(path / job["name"], manifest, job)
    elif (path / "config.yaml").is_file():
        yield read_run(path)
    else:
        for inner in sorted(child for child in path.iterdir() if child.is_dir()):
            yield from _runs_below(inner)


def _jobs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs of a sweep that have a name; what is no list of them is left out."""
    jobs = manifest.get("jobs")
    named = jobs if isinstance(jobs, list) else []
    return [job for job in named if isinstance(job, dict) and isinstance(job.get("name"), str)]


def _read(path: Path, manifest: dict[str, Any] | None, job: dict[str, Any]) -> RunRecord:
    run = RunDirectory(path)
    rows = tuple(_rows(run.metrics_log))
    last = {name: value for row in rows for name, value in row.items() if name not in ("step", "time")}
    metrics = {name: float(value) for name, value in (last | read_json(run.metrics)).items() if _is_value(value)}
    state, reason = _state(run, job)
    directions = {name: way for name, way in read_json(run.directions).items() if way in ("min", "max", None)}
    overrides = tuple(job.get("overrides", ()))
    counts = read_json(run.environment).get("num_parameters")
    sizes = (
        {role: count for role, count in counts.items() if isinstance(count, int)} if isinstance(counts, dict) else {}
    )
    return RunRecord(path, _config(run), manifest, overrides, state, reason, rows, metrics, directions, sizes)


def _config(run: RunDirectory) -> dict[str, Any]:
    try:
        config = read_yaml(run.config)
        return migrated_config(config, str(run.config)) if isinstance(config, dict) else {}
    except UserError:
        return {}


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from rows_of(lines)


def _state(run: RunDirectory, job: dict[str, Any]) -> tuple[str, str | None]:
    """The sweep knows of ends that the run itself did not live to record; of what is under way, the run knows more."""
    status = read_json(run.status)
    state, reason = job.get("state") or "running", job.get("reason")
    if state == "running" and status:
        state, reason = str(status.get("state", "running")), status.get("error")
    if state == "running" and status and _is_gone(run, status):
        return "interrupted", "its process is gone"
    return state, reason


def _is_gone(run: RunDirectory, status: dict[str, Any]) -> bool:
    try:
        os.kill(int(status.get("pid", 0)) or os.getpid(), 0)
    except ProcessLookupError:
        files = [file.stat().st_mtime for file in (run.status, run.metrics_log) if file.exists()]
        return time.time() - max(files, default=0.0) > SILENT_SECONDS
    except (OSError, ValueError, TypeError, OverflowError):
        pass
    return False


def _is_value(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
