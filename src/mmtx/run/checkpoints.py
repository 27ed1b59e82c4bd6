"""When a checkpoint is written, and what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mmtx.run.directory import RunDirectory
from mmtx.run.interrupt import Interrupted
from mmtx.training.module import MultimodalModule


class Checkpoints(Callback):
    """Writes ``last.ckpt`` and ``best.ckpt``; each is enough to rebuild the model with no other file.

    Args:
        run: where to.
        contents: stored beside the weights: config and specs.
        every_steps: optimiser steps between saves of ``last``; None: at the end only.
        monitor: metric that decides which is best; None: no ``best``.
        mode: ``min`` or ``max``.
    """

    def __init__(
        self, *, run: RunDirectory, contents: dict[str, Any], every_steps: int | None, monitor: str | None, mode: str
    ) -> None:
        self.run, self.contents, self.every_steps, self.monitor, self.mode = run, contents, every_steps, monitor, mode
        self.best: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.every_steps and trainer.global_step % self.every_steps == 0:
            self._save(trainer, self.run.last)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultimodalModule)
        value = pl_module.metrics.get(self.monitor) if self.monitor else None
        if value is None or value != value or trainer.state.fn != "fit":
            return
        better = self.best is None or (value < self.best if self.mode == "min" else value > self.best)
        if better:
            self.best = value
            self._save(trainer, self.run.best)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, self.run.last)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Interrupted):  # raised on all ranks after the same step
            self._save(trainer, self.run.last)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["mmtx"] = {**self.contents, "step": trainer.global_step, "metrics": dict(pl_module.metrics)}

    def _save(self, trainer: pl.Trainer, file: Path) -> None:
        partial = file.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, file)
