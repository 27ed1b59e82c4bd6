"""What W&B shows of a run, the same whether it is logged as it goes or rebuilt afterwards."""

import json
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.run.directory import RunDirectory
from mmtx.run.run_record import RunRecord, read_json

FILE = "wandb.json"
AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
"""By which an agent of a W&B sweep names its run to the process that it starts."""
LONGEST_TAG, LONGEST_NAME = 64, 128  # W&B's limits
SAMPLE_FILE = re.compile(r"(?P<name>.+)_step(?P<step>\d+)\.(?P<kind>jsonl|png|gif)")


def identity(
    record: RunRecord, project: str | None = None, entity: str | None = None, tags: Iterable[str] = ()
) -> dict[str, Any]:
    """The keywords of ``wandb.init`` that name a run, cut to what W&B allows.

    A job of a sweep is named by its overrides; its job type is the overrides without the seed, so that W&B can average
    over seeds. The id is the one in the run directory; or that of the W&B agent above this process; or a new one.
    """
    experiment = str(record.config.get("name", "run"))
    names = {override: _short(override) for override in record.overrides}
    without_seed = " ".join(name for override, name in names.items() if not override.startswith("seed="))
    return {
        "id": read_json(record.path / FILE).get("id") or agent_run_id(record) or secrets.token_hex(4),
        "project": re.sub(r"[/\\#?%:]", "-", project or "")[:LONGEST_NAME],
        "entity": entity,
        "name": (" ".join(names.values()) or f"{experiment} {record.path.name}")[:LONGEST_NAME],
        "group": str(record.sweep["name"])[:LONGEST_NAME] if record.sweep else None,
        "job_type": (without_seed or experiment)[:LONGEST_NAME],
        "tags": [text[:LONGEST_TAG] for text in (experiment, *record.overrides, *tags) if text],
    }


def agent_run_id(record: RunRecord) -> str | None:
    """The run that a W&B agent made for this process. Jobs of a sweep of ours are runs of their own all the same."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") and record.sweep is None else None


def remember(run_dir: Path, **known: Any) -> None:
    """Adds to what is kept: `id`, `project`, `entity`, and once everything is uploaded, `uploaded`: its `extent`."""
    RunDirectory(run_dir).write_json(run_dir / FILE, read_json(run_dir / FILE) | known)


def extent(record: RunRecord) -> dict[str, Any]:
    """By this one sees whether a run has gone on since it was uploaded."""
    return {"rows": len(record.rows), "state": record.state}


def open_run(settings: dict[str, Any], **keywords: Any) -> Any:
    """A run of W&B with our own steps as the axis: W&B counts rows, and a resumed run may log a step again."""
    import wandb

    run = wandb.init(settings=wandb.Settings(silent=True, console="off", **settings), **keywords)
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def log_samples(run: Any, files: Iterable[Path]) -> None:
    """Shows tables, pictures and films of ``samples/``; other files there are left out."""
    for file in files:
        if found := SAMPLE_FILE.fullmatch(file.name):
            run.log({f"samples/{_title(file, found['name'])}": _media(file), "step": int(found["step"])})


def checkpoint_files(run_dir: Path, names: Iterable[str]) -> list[Path]:
    """Those that exist, by ``best`` and ``last``."""
    return [file for name in names if (file := run_dir / "checkpoints" / f"{name}.ckpt").is_file()]


def parts_of(checkpoint: Path) -> dict[str, Path]:
    """The file of a checkpoint and those that hold its tensors, where ranks have written them, by their names."""
    from mmtx.run.checkpoint_content import shards_of

    shards = None
    with suppress(UserError):  # one that is damaged is kept as it is
        shards = shards_of(checkpoint)
    files = sorted(shards.iterdir()) if shards is not None and shards.is_dir() else []
    return {checkpoint.name: checkpoint, **{f"{file.parent.name}/{file.name}": file for file in files}}


def finish_run(run: Any, state: str, checkpoints: Iterable[Path]) -> None:
    """Keeps checkpoints as artifacts, shows how the run ended, which W&B's states cannot, and sends what is left."""
    import wandb

    for file in checkpoints:
        artifact = wandb.Artifact(f"{run.id}-{file.stem}", type="model")
        for name, part in parts_of(file).items():
            artifact.add_file(str(part), name=name)
        run.log_artifact(artifact, aliases=[file.stem])
    run.summary["state"] = state
    if state != "finished":
        run.tags = (*(run.tags or ()), state)
    run.finish(exit_code=0 if state == "finished" else 1)


def _short(override: str) -> str:
    """``optim.lr=1e-3`` -> ``lr=1e-3``."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _title(file: Path, name: str) -> str:
    """``classify`` is a table, ``classify_picture`` the picture beside it; in a folder of a part: ``part_classify``."""
    part = "" if file.parent.name == "samples" else f"{file.parent.name}_"
    beside = {".gif": "_film", ".png": "_picture" if file.with_suffix(".jsonl").is_file() else ""}
    return f"{part}{name}{beside.get(file.suffix, '')}"


def _media(file: Path) -> Any:
    import wandb

    if file.suffix != ".jsonl":
        return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    sounds = [file.with_name(f"{file.stem}_{i}.wav") for i in range(len(rows))]
    if any(sound.is_file() for sound in sounds):
        audio = [wandb.Audio(str(sound)) if sound.is_file() else None for sound in sounds]
        rows = [{"sound": sound, **row} for sound, row in zip(audio, rows, strict=True)]
    columns = list(rows[0]) if rows else []
    return wandb.Table(columns, [[row.get(column) for column in columns] for row in rows])
