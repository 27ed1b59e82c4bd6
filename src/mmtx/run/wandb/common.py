"""What is the same for a run in W&B whether it is logged as it goes or rebuilt afterwards."""

from __future__ import annotations

import os
from typing import Any

from mmtx.config.redaction import redacted


def settle_environment() -> list[str]:
    """Makes the environment one with which W&B starts; to be called before it is imported. An empty variable counts as
    none, and one that W&B refuses is taken out. Gives a line for each of those."""
    for name in _variables():
        if not os.environ[name].strip():
            del os.environ[name]
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would wait for a network when the process ends
    return [line for name in _variables() if (line := _refused(name))]


def _refused(name: str) -> str | None:
    import wandb

    try:
        wandb.Settings().update_from_env_vars({name: os.environ[name]})
    except (ValueError, wandb.Error) as error:
        reason = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
        return f"{redacted(f'{name}={os.environ.pop(name)}')} is refused by W&B ({reason})"
    return None


def _variables() -> list[str]:
    return [name for name in os.environ if name.startswith("WANDB_")]


def by_step(run: Any) -> None:
    """Our own steps are the axis: W&B's count rows, and a resumed run may log a step again."""
    run.define_metric("step")
    run.define_metric("*", step_metric="step")


def mark(run: Any, state: str) -> None:
    """What W&B's own states cannot tell apart."""
    run.summary["state"] = state
    if state != "finished":
        run.tags = (*(run.tags or ()), state)


def exit_code(state: str) -> int:
    """What makes W&B show a run as finished, or as failed."""
    return 0 if state == "finished" else 1
