"""The record of truth: one JSON object per logged step, on disk as it goes."""

import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mmtx.run.checkpoint_file import sync_directory

SYNC_SECONDS = 1.0


class MetricsLog(Logger):
    """Writes ``metrics.jsonl``: lines are appended one by one, and are safe from a power cut about a second later.

    A run that continues takes up the log where its checkpoint left it: lines behind that are of steps that will be
    done again, and move to ``metrics.superseded.jsonl``. So each logged step has one line.

    Args:
        path: the file.
        keep: lines that stay.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        super().__init__()
        self.path = path
        self._num_lines = _supersede(path, keep) if path.is_file() else 0
        self._file = path.open("ab", buffering=0)
        self._end, self._lost = self._file.tell(), 0
        self._synced = time.monotonic()

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        line = (json.dumps({"step": step, "time": time.time(), **finite(metrics)}) + "\n").encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError(0, "the disk is full")
        except OSError as error:
            self._lose(error)
            return
        self._num_lines, self._end = self._num_lines + 1, self._end + len(line)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.secure()

    def secure(self) -> int:
        """Puts on disk what is written. Gives the number of lines."""
        self._synced = time.monotonic()
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        return self._num_lines

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The config is a file of its own."""

    def close(self) -> None:
        self.secure()
        if self._lost:
            _say(f"{self._lost} lines of metrics were lost")

    def _lose(self, error: OSError) -> None:
        """A run is worth more than its log: warns once, and leaves no half line behind."""
        with contextlib.suppress(OSError):
            self._file.truncate(self._end)
        if not self._lost:
            _say(f"cannot write {self._file.name}: {error.strerror}; the run goes on, its metrics are lost")
        self._lost += 1


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN: what is not a number becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _supersede(path: Path, keep: int) -> int:
    """Gives the number of lines that stay."""
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) <= keep:
        return len(lines)
    with path.with_suffix(".superseded.jsonl").open("ab") as old:
        old.writelines(line.rstrip(b"\n") + b"\n" for line in lines[keep:])
        os.fsync(old.fileno())
    partial = path.with_suffix(".partial")
    with partial.open("wb") as new:
        new.writelines(lines[:keep])
        new.flush()
        os.fsync(new.fileno())
    os.replace(partial, path)
    sync_directory(path.parent)
    return keep


def _say(text: str) -> None:
    print(f"mmtx: {text}", file=sys.stderr, flush=True)
