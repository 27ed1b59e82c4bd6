"""Signals: finish the step, save, and go."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

TOGETHER_SECONDS = 1.0


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
    """Turns SIGINT and SIGTERM into `Interrupted` at the end of a step, on all ranks at once. A second signal ends the
    process at once; those that come together, from a terminal or a cluster and from a launcher, are one."""

    def __init__(self) -> None:
        self._received, self._since = 0, 0.0
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Once more: Lightning has put a handler of its own around ours, which would end the loop between two hooks,
        before anything is saved."""
        for number in self._previous:
            signal.signal(number, self._note)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        number = self._received
        if trainer.world_size > 1:
            flag = torch.tensor(number, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            number = int(flag)
        if number:
            raise Interrupted(number)

    def restore(self) -> None:
        """Gives signals back to whoever had them."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > TOGETHER_SECONDS:
            raise SystemExit(128 + number)
