"""When a checkpoint is written, which stay, and what is in them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.metric_directions import Direction, Directions, direction_of
from mmtx.process.launch import launch
from mmtx.process.stopping import Interrupted
from mmtx.run.checkpoint_content import shards_of
from mmtx.run.checkpoint_file import CheckpointError, write_checkpoint
from mmtx.run.checkpoint_shards import drop_unnamed, write_shards
from mmtx.run.directory import RunDirectory
from mmtx.run.metrics_log import MetricsLog
from mmtx.training.checkpoint_state import capture
from mmtx.training.lightning_module import MultimodalModule
from mmtx.training.nonfinite import NotFinite
from mmtx.training.rank_agreement import Request
from mmtx.training.sharding import is_sharded, unshard
from mmtx.training.stored_tensors import take_apart

MAX_FAILURES = 3
"""Saves in a row that may fail before the run ends: a disk may be full for a while."""


class Checkpoints(Callback):
    """Writes ``step-N.ckpt``, and gives the newest the name ``last.ckpt`` too, and the best ``best.ckpt``. Each is
    enough to rebuild the model, or to continue the run, with no other file.

    Args:
        every_steps: optimiser steps between saves; None: not by steps.
        every_minutes: between saves; None: not by time.
        keep: newest checkpoints that stay.
        monitor: metric that decides which is best; None: no ``best``.
        mode: ``min`` or ``max``, where the metric declares neither; None: as it declares.
        asynchronous: write a copy of the state while training goes on.
    """

    def __init__(
        self,
        *,
        every_steps: int | None,
        every_minutes: float | None,
        keep: int,
        monitor: str | None,
        mode: Direction | None,
        asynchronous: bool,
    ) -> None:
        check_at_least("every_steps", every_steps, 1)
        check_at_least("keep", keep, 1)
        if every_minutes is not None and not every_minutes > 0:
            raise InvalidValue("every_minutes", every_minutes, "must be above 0, or null")
        self.keep, self.monitor, self.mode = keep, monitor, mode
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.best: float | None = None
        self._has_warned = False
        self._best_before: float | None = None
        self._pool = ThreadPoolExecutor(1) if asynchronous else None
        self._writing: Future[None] | None = None
        self._failures, self._last_time = 0, time.monotonic()
        self._group: Any = None

    def choosing(self, directions: Directions) -> Checkpoints:
        """From now on knows which way `monitor` is better.

        Args:
            directions: of all metrics that the run may log.

        Raises:
            InvalidValue: `monitor` is none of those that training and validation log, or `mode` contradicts it.
        """
        if self.monitor is not None:
            early = {metric: way for metric, way in directions.items() if not metric.startswith("test/")}
            if self.monitor in directions and self.monitor not in early:
                problem = "is known when the run has ended, and the best is chosen before"
                raise InvalidValue(
                    "checkpoint.monitor", self.monitor, problem, self.monitor.replace("test/", "val/", 1)
                )
            self.mode = direction_of(self.monitor, self.mode, early, keys=("checkpoint.monitor", "checkpoint.mode"))
        return self

    def of(self, run: RunDirectory, contents: dict[str, Any]) -> Checkpoints:
        """From now on those of a run.

        Args:
            run: where to.
            contents: stored beside the state: config, specs, the data's fingerprint.
        """
        self.run, self.contents = run, contents
        return self

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._last_time = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Rank 0 has the clock and the disk; the others get its requests with the step."""
        if not trainer.is_global_zero:
            return
        if self.every_minutes is not None and time.monotonic() - self._last_time > 60 * self.every_minutes:
            pl_module.requests.add(Request.SAVE)
        self._look_after_writing(wait=False)
        if self._failures >= MAX_FAILURES:
            pl_module.requests.add(Request.SAVING_FAILED)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if Request.SAVING_FAILED in pl_module.agreed:
            raise CheckpointError(f"no checkpoint could be written {MAX_FAILURES} times in a row; see the lines above")
        by_steps = self.every_steps and trainer.global_step % self.every_steps == 0
        at_end = trainer.global_step >= pl_module.total_steps  # which is saved behind its validation
        if (by_steps or Request.SAVE in pl_module.agreed) and not at_end:
            self._save(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultimodalModule)
        if self.monitor is not None and self.monitor not in pl_module.metrics and not self._has_warned:
            self._has_warned = True
            if trainer.is_global_zero:
                known = ", ".join(key for key in pl_module.metrics if key.startswith("val/"))
                problem = f"checkpoint.monitor={self.monitor} is not logged, so there is no best.ckpt; there is {known}"
                print(f"mmtx: warning: {problem}", file=sys.stderr, flush=True)
        if trainer.state.fn == "validate":  # of a run that was stopped between its last step and this
            self._save_the_end(pl_module)
        elif trainer.strategy.broadcast(self._is_best(pl_module)):
            self._save(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._save_the_end(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Saves what is whole. What all ranks raise together they save together; alone, only rank 0 of weights that are
        not spread over ranks can."""
        together = isinstance(exception, Interrupted | NotFinite)
        possible = together or (trainer.is_global_zero and not is_sharded(trainer))
        meant = isinstance(exception, Exception | Interrupted) and not isinstance(exception, CheckpointError)
        if not (pl_module.is_between_steps and possible and meant and trainer.state.fn == "fit"):
            return
        unshard(trainer, pl_module.learner, False)
        with suppress(NotFinite):  # what is whole is then the step before
            pl_module.finish_step(together)
        if trainer.global_step:
            if pl_module.average is not None and pl_module.average.is_swapped:
                pl_module.average.swap(pl_module.learner)
            self._save(pl_module)
            self._look_after_writing(wait=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state.get("best")

    def _is_best(self, module: MultimodalModule) -> bool:
        """Whether the state is validated, and better than that of ``best.ckpt``."""
        value = module.metrics.get(self.monitor) if self.monitor else None
        if module.validated != module.global_step or value is None or value != value:
            return False
        return self.best is None or (value < self.best if self.mode == "min" else value > self.best)

    def _save_the_end(self, module: MultimodalModule) -> None:
        self._save(module)
        self._look_after_writing(wait=True)
        if module.trainer.strategy.broadcast(self._failures):
            raise CheckpointError("the state that the run ended with could not be saved; see the line above")

    def _save(self, module: MultimodalModule) -> None:
        module.finish_step()
        self._last_time = time.monotonic()
        module.requests.discard(Request.SAVE)
        self._look_after_writing(wait=True)
        self._best_before, best = self.best, self._is_best(module)
        if best:
            self.best = module.metrics[str(self.monitor)]
        try:
            content = self._content(module)
        except BaseException:
            self.best = self._best_before
            raise
        rest, spread = take_apart(content)
        if spread and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")  # used while training uses the others
        if not spread and not module.trainer.is_global_zero:
            return
        if self._pool is None:
            self._writing = Future()
            try:
                self._write(rest, spread, best)
                self._writing.set_result(None)
            except BaseException as error:  # raised below, as that of another thread
                self._writing.set_exception(error)
            self._look_after_writing(wait=True)
        else:
            rest, spread = tree_map(_copy, (rest, spread))
            self._writing = self._pool.submit(self._write, rest, spread, best)

    def _content(self, module: MultimodalModule) -> dict[str, Any]:
        """What is written: by rank 0, and of tensors that are spread over ranks by each."""
        state = capture(module)
        logs = [logger for logger in module.trainer.loggers if isinstance(logger, MetricsLog)]
        described = {**self.contents, "step": module.global_step, "metrics": dict(module.metrics)}
        described["log_lines"] = sum(log.secure() for log in logs)
        return {"mmtx": described, **state}

    def _look_after_writing(self, wait: bool) -> None:
        """Takes note of how the last write ended, if it has ended."""
        if self._writing is None or not (wait or self._writing.done()):
            return
        error, self._writing = self._writing.exception(), None
        self._failures = self._failures + 1 if error else 0
        if error:
            self.best = self._best_before  # what was not written is still to be named
        if isinstance(error, CheckpointError) and not launch().is_main:
            return  # rank 0 reports it
        if isinstance(error, CheckpointError):
            print(f"mmtx: {error}; checkpoints from before are kept", file=sys.stderr, flush=True)
        elif error:
            raise error

    def _write(self, content: dict[str, Any], spread: dict[str, DTensor], best: bool) -> None:
        file = self.run.checkpoints / f"step-{content['mmtx']['step']:08d}.ckpt"
        try:
            if spread:
                content = {**content, "shards": write_shards(file, spread, self._group)}
            if launch().is_main:
                self._put(file, content, best)
        finally:
            if spread and launch().is_main:
                self._prune_shards()

    def _put(self, file: Path, content: dict[str, Any], best: bool) -> None:
        write_checkpoint(file, content, [*([self.run.best] if best else []), self.run.last])
        try:
            self._prune()
        except OSError as error:
            raise CheckpointError(f"cannot remove checkpoints beside {file}: {error.strerror}") from None
        self.run.note_checkpoint(content["mmtx"]["step"])

    def _prune(self) -> None:
        """What is best keeps its other name."""
        for file in self.run.step_files()[self.keep :]:
            file.unlink(missing_ok=True)

    def _prune_shards(self) -> None:
        files = [*self.run.step_files(), self.run.last, self.run.best]
        with suppress(UserError):  # one that cannot be read may need any of them
            drop_unnamed(self.run.checkpoints, {shards_of(file) for file in files if file.is_file()})


def _copy(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
