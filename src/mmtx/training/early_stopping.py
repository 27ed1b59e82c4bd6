"""The callback that ends a run whose metric no longer improves."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mmtx.errors import InvalidValue, check_at_least
from mmtx.metric_directions import Direction, Directions, direction_of


class EarlyStopping(Callback):
    """Ends training where a metric has not improved for some validations in a row; the test follows as ever.

    What it remembers is in every checkpoint, so a run that continues stops at the same step. The first rank decides for
    all.

    Args:
        monitor: a metric of validation.
        patience: validations in a row without improvement.
        min_delta: what counts as improvement is more than this.
        mode: ``min`` or ``max``, where the metric declares neither; None: as it declares.
    """

    def __init__(self, *, monitor: str, patience: int, min_delta: float, mode: Direction | None) -> None:
        check_at_least("patience", patience, 1)
        if not (math.isfinite(min_delta) and min_delta >= 0):
            raise InvalidValue("min_delta", min_delta, "must be at least 0")
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self._best: float | None = None
        self._waited = 0

    def choosing(self, directions: Directions) -> EarlyStopping:
        """From now on knows which way `monitor` is better.

        Args:
            directions: of all metrics that the run may log.

        Raises:
            InvalidValue: validation does not log `monitor`, or `mode` contradicts it.
        """
        logged = {metric: way for metric, way in directions.items() if metric.startswith("val/")}
        self.mode = direction_of(self.monitor, self.mode, logged, keys=("monitor", "mode"))
        return self

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        self._look_at(pl_module.metrics.get(self.monitor, math.nan))
        if not trainer.strategy.broadcast(self._waited >= self.patience):
            return
        if trainer.is_global_zero and not trainer.should_stop:
            text = f"{self.monitor} has not improved on {self._best} for {self._waited} validations"
            print(f"early_stopping: {text}; the training ends at step {trainer.global_step}", flush=True)
        trainer.should_stop = True

    def _look_at(self, value: float) -> None:
        """What is not a number is no improvement."""
        sign = 1 if self.mode == "max" else -1
        best = -math.inf if self._best is None else sign * self._best
        if sign * value > best + self.min_delta:
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
