"""``mmtx sync``: uploads what was logged offline; where W&B's own file lacks something, from metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.process.stopping import track
from mmtx.run.record import RunRecord, find_runs, read_json
from mmtx.run.wandb.common import by_step, exit_code, mark, settle_environment
from mmtx.run.wandb.file import read_wandb_file
from mmtx.run.wandb.identity import FILE, identity, project_name, remember
from mmtx.run.wandb.server import why_offline

UPLOAD = (sys.executable, "-P", "-m", "wandb", "sync", "--include-online")
SAMPLES = re.compile(r"(?P<name>.+)_step(?P<step>\d+)")


def sync(places: Sequence[str], parallel: int) -> int:
    """Uploads every run in or below `places` that is not up yet, many at a time. Gives the exit code.

    Raises:
        UserError: there is no run, no key, or no way to the server.
    """
    records = find_runs(places)
    begun = [record for record in records if record.rows and record.config]
    over = [record for record in begun if record.state != "running"]
    due = [record for record in over if read_json(record.path / FILE).get("uploaded") != _whole(record)]
    if due:
        why = "; ".join(settle_environment()) or why_offline()
        if why:
            raise UserError(f"nothing can be uploaded: {why}; see `wandb login`, WANDB_API_KEY and WANDB_BASE_URL")
    files = {record.path: _complete_files(record) for record in due}
    rebuilt = [record for record in due if not files[record.path]]
    for record in track(rebuilt, "rebuilding what was logged, run"):
        files[record.path] = [_rebuild(record)]
    said = _upload([file.parent for of_run in files.values() for file in of_run], parallel) if due else ""
    failed = [record for record in due if not all(_is_up(file) for file in files[record.path])]
    for record in due:
        if record not in failed:
            remember(record.path, uploaded=_whole(record))
    print(
        f"{len(due) - len(failed)} uploaded ({len(rebuilt)} rebuilt from metrics.jsonl), "
        f"{len(over) - len(due)} were up, {len(begun) - len(over)} still running, "
        f"{len(records) - len(begun)} without a row, {len(failed)} failed"
    )
    for record in failed:
        print(f"  failed: {record.path}", file=sys.stderr)
    if failed and said:
        print(said, file=sys.stderr)
    return 1 if failed else 0


def _whole(record: RunRecord) -> dict[str, Any]:
    return {"rows": len(record.rows), "state": record.state}


def _complete_files(record: RunRecord) -> list[Path]:
    """W&B's files of the run, one for each time that it was started; none if together they do not hold all of it."""
    files = sorted(record.path.glob("wandb/*run-*/run-*.wandb"), key=lambda file: file.parent.name.split("run-", 1)[1])
    contents = [read_wandb_file(file) for file in files]
    num_rows = sum(len(content.rows) for content in contents)
    if not contents or num_rows != len(record.rows) or contents[-1].summary.get("state") != record.state:
        return []
    return files if contents[-1].exit_code is not None else []


def _rebuild(record: RunRecord) -> Path:
    """A file like the one that W&B would have written: the same id, config, rows and end."""
    import wandb

    folder = record.path / "wandb" / "rebuilt"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept, logger = read_json(record.path / FILE), _logger(record)
    run = wandb.init(
        mode="offline",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        dir=str(folder),
        config=record.config,
        project=kept.get("project") or project_name(logger.get("project") or ""),
        entity=kept.get("entity") or logger.get("entity"),
        **identity(record, logger.get("tags", [])),
    )
    remember(record.path, id=run.id)
    by_step(run)
    for row in record.rows:
        run.log({_column(name): math.nan if value is None else value for name, value in row.items()})
    for shown in _samples(record.path / "samples"):
        run.log(shown)
    mark(run, record.state)
    run.finish(exit_code=exit_code(record.state))
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return file


def _logger(record: RunRecord) -> dict[str, Any]:
    loggers = record.config.get("logger") or {}
    return next((node for node in loggers.values() if str(node.get("_target_")).endswith(".WandbLog")), {})


def _column(name: str) -> str:
    return "_timestamp" if name == "time" else name


def _samples(folder: Path) -> list[dict[str, Any]]:
    """Pictures and tables that the run kept, as it logged them. Sounds are not kept."""
    import wandb

    shown = []
    for file in sorted(folder.glob("*_step*.*")):
        found = SAMPLES.fullmatch(file.stem)
        if found and file.suffix == ".png":
            shown.append({f"samples/{found['name']}_picture": wandb.Image(str(file)), "step": int(found["step"])})
        elif found and file.suffix == ".jsonl":
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            columns = list(lines[0]) if lines else []
            table = wandb.Table(columns, [[line.get(column) for column in columns] for line in lines])
            shown.append({f"samples/{found['name']}": table, "step": int(found["step"])})
    return shown


def _upload(folders: Sequence[Path], parallel: int) -> str:
    """All in one process, which sends many at a time, and files of one run in their order."""
    command = [*UPLOAD, "-n", str(parallel), *map(str, folders)]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # not that of ours
    with tempfile.TemporaryDirectory() as logs:  # which would else lie in a folder wandb/ here
        environment["WANDB_DIR"] = logs
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return (done.stdout + done.stderr).strip()


def _is_up(file: Path) -> bool:
    """W&B leaves this beside a file that arrived."""
    return file.with_name(f"{file.name}.synced").is_file()
