"""Run directories and sweeps as training leaves them, written by hand."""

import json
import os

import yaml

CONFIG = {
    "name": "toy",
    "seed": 0,
    "checkpoint": {"monitor": "val/loss", "mode": "min"},
    "logger": {"wandb": {"_target_": "mmtx.run.WandbLog", "project": "mmtx", "entity": None, "tags": ["t"]}},
}


def write_run(path, rows, state="finished", error=None, config=None, metrics=None):
    """A run directory; `rows` are lines of metrics.jsonl; those of the last step are its final metrics."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, **(config or {})}, sort_keys=False))
    lines = [json.dumps({"time": 1.7e9 + i, **row}) for i, row in enumerate(rows)]
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    (path / "status.json").write_text(json.dumps({"state": state, "error": error, "pid": os.getpid()}))
    if state == "finished":
        last = {name: value for row in rows for name, value in row.items() if name != "step"}
        (path / "metrics.json").write_text(json.dumps(metrics or last))
    return path


def write_sweep(path, jobs, command=()):
    """A sweep's manifest; a job is (name, overrides, state, reason)."""
    path.mkdir(parents=True, exist_ok=True)
    known = [{"name": n, "overrides": list(o), "state": s, "reason": r, "attempts": 1} for n, o, s, r in jobs]
    manifest = {"name": path.name, "path": str(path), "command": list(command), "config_file": None, "jobs": known}
    (path / "sweep.json").write_text(json.dumps(manifest))
    return path


def curve(value, steps=(10, 20, 30), metric="val/loss"):
    """Rows of a run whose metric falls to `value`."""
    return [
        row
        for i, step in enumerate(steps)
        for row in (
            {"step": step, "train/loss": value + 1.0 / (i + 1)},
            {"step": step, metric: value + 0.5 * (len(steps) - 1 - i)},
        )
    ]
