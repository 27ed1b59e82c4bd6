"""The run directory: where everything about a run lies."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from mmtx.errors import UserError


class RunDirectory:
    """Names of the files of a run, and how they are written.

    Args:
        path: made if it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.status = self.path / "status.json"
        self.metrics_log = self.path / "metrics.jsonl"
        self.metrics = self.path / "metrics.json"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"

    def create(self) -> None:
        """Raises UserError if the directory cannot be made, or already holds a run."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"run_dir={self.path} cannot be made: {error.strerror}; choose another run_dir") from None
        if self.status.exists():
            raise UserError(f"run_dir={self.path} already holds a run; choose another run_dir, or remove it")

    def clear(self) -> None:
        """Removes what an attempt has left, except its config and its log."""
        for file in (self.status, self.metrics_log, self.metrics, *self.checkpoints.glob("*"), *self.samples.glob("*")):
            if file.is_file():
                file.unlink()

    def state(self) -> str | None:
        """What ``status.json`` says; None if the run has not begun."""
        return json.loads(self.status.read_text())["state"] if self.status.exists() else None

    def write_json(self, file: Path, content: dict[str, Any]) -> None:
        """Whole or not at all: a reader never sees half a file."""
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, file)

    def set_status(self, state: str, error: str | None = None) -> None:
        """`state` is running, finished, failed or interrupted."""
        now = time.time()
        known = json.loads(self.status.read_text()) if self.status.exists() else {"started": now}
        known |= {"state": state, "updated": now, "ended": None if state == "running" else now, "error": error}
        known["pid"] = os.getpid()
        self.write_json(self.status, known)


def newest_checkpoint(place: Path | str) -> Path:
    """The checkpoint meant by a run directory or a file.

    Raises:
        UserError: there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"{place} does not exist; give a run directory or a checkpoint file")
    run = RunDirectory(path)
    for file in (run.last, run.best):
        if file.is_file():
            return file
    raise UserError(f"{place} holds no checkpoint (looked for checkpoints/last.ckpt and best.ckpt)")


def fresh_directory(name: str) -> Path:
    """``runs/<name>/<date_time>``, with a number behind it if there is one already."""
    base = Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}_{number}"), number + 1
    return path
