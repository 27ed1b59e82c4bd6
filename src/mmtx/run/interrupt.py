"""Signals: finish the step, save, and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mmtx.training.alarms import Alarm
from mmtx.training.module import MultimodalModule

SIGNALS = (Alarm.TERMINATE, Alarm.INTERRUPT, Alarm.REQUEUE)
ONE_SIGNAL_SECONDS = 1.0
"""Signals so close together are one: a terminal and the process above both pass it on."""


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class Interrupt(Callback):
    """Turns SIGINT, SIGTERM and SLURM's warning SIGUSR1 into `Interrupted` at the end of a step or of a batch of an
    evaluation, on all ranks at once. A second signal ends the process at once."""

    def __init__(self) -> None:
        self._received, self._when = 0, 0.0
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for number in SIGNALS:
            self._previous[int(number)] = signal.signal(number, self._note)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Once more: Lightning has put a handler of its own around ours, which would end the loop between two hooks,
        before anything is saved, or wait for ranks that know of nothing."""
        for number in self._previous:
            signal.signal(number, self._note)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_train_start(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_train_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self._received:
            pl_module.raised.add(Alarm(self._received))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self._end_if_agreed(pl_module)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.on_train_batch_start(trainer, pl_module)
        pl_module.agree()
        self._end_if_agreed(pl_module)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.on_validation_batch_end(trainer, pl_module)

    def restore(self) -> None:
        """Gives signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _end_if_agreed(self, module: MultimodalModule) -> None:
        for alarm in SIGNALS:
            if alarm in module.alarms:
                raise Interrupted(int(alarm))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received and time.monotonic() - self._when > ONE_SIGNAL_SECONDS:
            os._exit(128 + number)
        if not self._received:
            self._received, self._when = number, time.monotonic()


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
