"""The record of truth: one JSON object per logged step, on disk as it goes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


class MetricsLog(Logger):
    """Writes ``metrics.jsonl``.

    Args:
        path: the file; lines are appended and flushed one by one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("a", encoding="utf-8")

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        line = {"step": step, "time": time.time(), **finite(metrics)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The config is a file of its own."""

    def finalize(self, status: str) -> None:
        self._file.flush()


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN: what is not a number becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
