"""``sweep.json``: the record of a sweep and its jobs."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmtx.config.migrations import migrated_sweep
from mmtx.config.redaction import redacted
from mmtx.errors import UserError


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        name: of its directory.
        overrides: those that are swept.
        state: waiting, running, finished, failed, interrupted or pruned.
        reason: why it did not finish.
        attempts: how often it was started.
        started: time of the last start, in ISO format.
        ended: time of the last end.
        device: that it ran on.
        steps: optimiser steps of the whole run.
        cost: parameters times samples; the most expensive job starts first.
    """

    name: str
    overrides: list[str]
    state: str = "waiting"
    reason: str | None = None
    attempts: int = 0
    started: str | None = None
    ended: str | None = None
    device: str | None = None
    steps: int | None = None
    cost: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.state in ("finished", "pruned")


@dataclass
class Sweep:
    """A sweep and its jobs.

    Attributes:
        path: the sweep's directory, absolute.
        command: the overrides as they were typed.
        config_file: the saved config that they change; None: they make a new one.
        created: time, in ISO format.
        state: running, finished, failed or interrupted.
        jobs: in the order of the command.
    """

    path: Path
    command: list[str]
    config_file: str | None
    created: str
    state: str
    jobs: list[Job]

    @property
    def file(self) -> Path:
        return self.path / "sweep.json"

    def write(self) -> None:
        """Writes the record atomically."""
        content: dict[str, Any] = {"name": self.path.name, **dataclasses.asdict(self), "path": str(self.path)}
        partial = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(redacted(content), indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.file)


def read_sweep(path: Path | str) -> Sweep:
    """Reads a record. Raises UserError if there is none."""
    folder = Path(path).expanduser().absolute()
    try:
        content = migrated_sweep(json.loads((folder / "sweep.json").read_text(encoding="utf-8")))
        del content["name"]
        jobs = [Job(**job) for job in content.pop("jobs")]
        return Sweep(**content | {"path": folder}, jobs=jobs)  # it may have been moved
    except FileNotFoundError:
        raise UserError(f"{path} is not the directory of a sweep: it has no sweep.json") from None
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'sweep.json'} cannot be read: {error}") from None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def summary(jobs: Sequence[Job]) -> str:
    """``4 finished, 1 failed, 7 waiting``."""
    states = ("finished", "pruned", "failed", "interrupted", "running", "waiting")
    counts = {state: sum(job.state == state for job in jobs) for state in states}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no jobs"
