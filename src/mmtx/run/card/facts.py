"""What is recorded of a model: by its run, by its checkpoint, or by the model folder that it was taken from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtx.config.redaction import redacted
from mmtx.config.targets import packages, resolve
from mmtx.data.base import Source
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import load, read_checkpoint
from mmtx.run.directory import RunDirectory, newest_checkpoint

RECORDED = ("environment", "metrics", "seconds")
"""What a model folder holds of its run, in the order of `Facts`."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model. What was never recorded is missing, or empty.

    Attributes:
        learner: the model with its objectives; its config is of the run.
        trained: ``step``, ``samples_per_step`` and ``fingerprint`` of its checkpoint.
        environment: what its run ran on.
        metrics: the final ones, or else those of its checkpoint.
        seconds: how long its run took.
    """

    learner: Learner
    trained: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        return self.learner.config or {}

    @property
    def source(self) -> type[Source] | None:
        """The class of its data; None where that is not to be had."""
        try:
            return resolve(str(self.config["data"]["_target_"]), packages(dict(self.config)))
        except (UserError, LookupError):
            return None

    @property
    def num_samples(self) -> dict[str, int]:
        """Samples of each split, as far as they are known."""
        hashed = {name: split["samples"] for name, split in self.trained.get("fingerprint", {}).items()}
        return {**hashed, **self.environment.get("num_samples", {})}

    @property
    def figures(self) -> dict[str, float]:
        """The metrics of the splits that it was not trained on."""
        return {name: value for name, value in self.metrics.items() if name.startswith(("val/", "test/"))}


def facts_of(model: Learner | Path | str) -> Facts:
    """What is recorded of a run, checkpoint, model folder or learner, without secrets."""
    if isinstance(model, Learner):
        return Facts(model)
    file = newest_checkpoint(model)
    trained = read_checkpoint(file)["mmtx"]
    record = record_of(file, trained) or trained.get("record", {})
    return Facts(load(model), trained, *(record[key] for key in RECORDED if key in record))


def record_of(file: Path, trained: Mapping[str, Any]) -> dict[str, Any]:
    """What the run of a checkpoint has written down beside it: its environment, the metrics of these weights, and its
    seconds. Empty of a file that is in no run directory."""
    run = RunDirectory(file.parent.parent)
    if file.parent != run.checkpoints or not run.environment.is_file():
        return {}
    environment, status = _json(run.environment), _json(run.status)
    is_final = status.get("state") == "finished" and file == run.last
    ended, started = status.get("ended"), status.get("started")
    record = {
        "environment": {key: value for key, value in environment.items() if key != "directory"},
        "metrics": _json(run.metrics) if is_final else trained["metrics"],
        "seconds": ended - started if is_final and ended and started else None,
    }
    return redacted(record)


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content
