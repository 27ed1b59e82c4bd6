"""What a run is called in W&B. Kept in the run directory, so that a resumed run goes on under the same id."""

from __future__ import annotations

import os
import re
import secrets
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmtx.run.directory import RunDirectory
from mmtx.run.record import RunRecord, read_json

FILE = "wandb.json"
AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
"""How an agent of a W&B sweep tells the process that it starts which run it is."""
LONGEST_TAG, LONGEST_NAME = 64, 128  # W&B's limits
NOT_IN_PROJECTS = r"[/\\#?%:]"


def identity(record: RunRecord, tags: Iterable[str] = ()) -> dict[str, Any]:
    """`id`, `name`, `group`, `job_type` and `tags`, as ``wandb.init`` takes them, cut to what W&B allows.

    A job of a sweep is named by its overrides; its group is the sweep, and its job type is the overrides without the
    seed, so that W&B can average over seeds. The id is the one kept in the run directory; or that of the W&B agent
    which started this process; or a new one.

    Args:
        record: of the run.
        tags: the user's own.
    """
    experiment = str(record.config.get("name", "run"))
    swept = list(record.overrides)
    short = {override: _short(override) for override in swept}
    without_seed = " ".join(text for override, text in short.items() if not override.startswith("seed="))
    kept = read_json(record.path / FILE).get("id")
    return {
        "id": kept or agent_run_id(record) or _new_id(),
        "name": (" ".join(short.values()) or f"{experiment} {record.path.name}")[:LONGEST_NAME],
        "group": str(record.sweep["name"])[:LONGEST_NAME] if record.sweep else None,
        "job_type": (without_seed or experiment)[:LONGEST_NAME],
        "tags": [text[:LONGEST_TAG] for text in (experiment, *swept, *tags) if text],
    }


def project_name(name: str) -> str:
    """A project's name with what W&B allows in one."""
    return re.sub(NOT_IN_PROJECTS, "-", name)[:LONGEST_NAME]


def agent_run_id(record: RunRecord) -> str | None:
    """The run that a W&B agent made for this process. Jobs of a sweep of ours are runs of their own all the same."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") and record.sweep is None else None


def remember(run_dir: Path, **known: Any) -> None:
    """Adds to what is kept: `id`, `project`, `entity`, and once everything is uploaded, `uploaded`."""
    run = RunDirectory(run_dir)
    run.write_json(run.path / FILE, read_json(run.path / FILE) | known)


def _short(override: str) -> str:
    """``optim.lr=1e-3`` -> ``lr=1e-3``."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
