"""Requests to stop in a run: finish the step, agree, save, and go."""

import os
import subprocess
import sys
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mmtx.process.stopping import Obey, handle_signals, obey, share


class Interrupt(Callback):
    """Turns a request to stop into `Interrupted` on all ranks at once, where the state is whole: behind a step, behind
    a batch of an evaluation, and behind what follows an evaluation. Comes last of the callbacks, behind those that take
    long."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        handle_signals()
        obey(Obey.LATER)
        if trainer.world_size > 1:
            share_over_ranks()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.stop_if_agreed()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.stop_if_requested()

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.stop_if_requested()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.stop_if_requested()

    on_validation_end = on_test_end = on_train_end


def share_over_ranks() -> None:
    """Has a request to one rank be one to all, also while that rank waits for another that acts or writes texts."""
    from torch.distributed.distributed_c10d import _get_default_store

    writing, reading = (torch.distributed.PrefixStore("stopping", _get_default_store().clone()) for _ in range(2))

    def look() -> int:
        try:
            return int(reading.get("signal")) if reading.check(["signal"]) else 0
        except RuntimeError:  # the rank that holds the store has ended
            return 0

    share(lambda number: writing.set("signal", str(number)), look)


def requeue() -> None:
    """Asks SLURM to start this job again; it then continues (see `mmtx train --help`)."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"mmtx: cannot requeue SLURM job {job}: {error}", file=sys.stderr)
