"""What is the same for a run in W&B whether it is logged as it goes or rebuilt afterwards."""

from __future__ import annotations

import os
from typing import Any


def quieten() -> None:
    """To be called before W&B is imported. Its reports about itself would wait for a network when the process ends."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


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
