"""``mmtx sync``: rebuilds runs for W&B from metrics.jsonl and samples/, and uploads them."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtx.errors import UserError, check_at_least
from mmtx.process.stopping import track
from mmtx.run.run_record import RunRecord, find_runs, read_json
from mmtx.run.wandb import view
from mmtx.run.wandb.environment import settle_environment, why_offline

UPLOAD = (sys.executable, "-P", "-m", "wandb", "sync")


def sync(paths: Sequence[str], *, parallel: int = 8) -> int:
    """Uploads every run in or below `paths` that is not up yet, many at a time. Gives the exit code.

    Args:
        paths: directories of runs and sweeps
        parallel: how many are sent at the same time

    Raises:
        UserError: there is no run, no key, or no way to the server.
    """
    check_at_least("parallel", parallel, 1)
    records = find_runs(paths)
    begun = [record for record in records if record.rows and record.config]
    over = [record for record in begun if record.state != "running"]
    due = [record for record in over if read_json(record.path / view.FILE).get("uploaded") != view.extent(record)]
    failed, output = _upload(due, parallel) if due else ([], "")
    print(
        f"{len(due) - len(failed)} uploaded, {len(over) - len(due)} were up, {len(begun) - len(over)} still running, "
        f"{len(records) - len(begun)} without a row, {len(failed)} failed"
    )
    if failed:
        print("\n".join([*(f"  failed: {record.path}" for record in failed), output]).rstrip(), file=sys.stderr)
    return 1 if failed else 0


def _upload(due: Sequence[RunRecord], parallel: int) -> tuple[list[RunRecord], str]:
    """Rebuilds all and sends many at a time. Gives those that did not arrive, and what W&B printed."""
    why = "; ".join(settle_environment()) or why_offline()
    if why:
        raise UserError(f"nothing can be uploaded: {why}; see `wandb login`, WANDB_API_KEY and WANDB_BASE_URL")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        files = [_rebuild(record, folder) for record in track(due, "rebuilding what was logged, run")]
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # not that of ours
        environment["WANDB_DIR"] = folder  # for its logs
        command = [*UPLOAD, "-n", str(parallel), *(str(file.parent) for file in files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        for record, file in zip(due, files, strict=True):
            if file.with_name(f"{file.name}.synced").is_file():  # which W&B leaves beside a file that arrived
                view.remember(record.path, uploaded=view.extent(record))
            else:
                failed.append(record)
    return failed, (done.stdout + done.stderr).strip()


def _rebuild(record: RunRecord, folder: str) -> Path:
    """The file of an offline run with the same id, config, rows, samples, checkpoints and end."""
    loggers: dict[str, dict[str, Any]] = record.config.get("logger") or {}
    logger = next((node for node in loggers.values() if str(node.get("_target_")).endswith(".WandbLog")), {})
    known, settings = read_json(record.path / view.FILE), {"x_disable_stats": True, "x_disable_meta": True}
    named = view.identity(record, logger.get("project"), logger.get("entity"), logger.get("tags", []))
    named |= {key: known[key] for key in ("project", "entity") if known.get(key)}
    run = view.open_run(settings, mode="offline", dir=folder, config=record.config, **named)
    view.remember(record.path, id=run.id)
    for row in record.rows:
        columns = {"_timestamp" if name == "time" else name: value for name, value in row.items()}
        run.log({name: math.nan if value is None else value for name, value in columns.items()})
    view.log_samples(run, sorted((record.path / "samples").rglob("*_step*")))
    view.finish_run(run, record.state, view.checkpoint_files(record.path, logger.get("checkpoints", [])))
    return next(Path(run.dir).parent.glob("run-*.wandb"))
