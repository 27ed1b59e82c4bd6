"""A row of metrics, given to everything that reads metrics: Lightning's callbacks, and all loggers."""

import sys
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch


def publish(trainer: pl.Trainer, row: Mapping[str, float]) -> None:
    """Puts a row into ``trainer.callback_metrics``, on all ranks, and logs it.

    A logger that fails is reported in one line and left out from then on: a run is worth more than its logs.
    """
    trainer.callback_metrics.update({name: torch.tensor(value, dtype=torch.double) for name, value in row.items()})
    for logger in trainer.loggers:
        try:
            logger.log_metrics(dict(row), trainer.global_step)
        except Exception as error:  # of whatever kind a logger's server or disk raises
            leave_out(trainer, logger, error)


def leave_out(trainer: pl.Trainer, logger: Any, error: Exception) -> None:
    """Goes on without a logger."""
    trainer.loggers = [other for other in trainer.loggers if other is not logger]
    problem = " ".join(f"{type(error).__name__}: {error}".split())
    text = f"{type(logger).__name__} failed ({problem[:300]}); going on without it, metrics.jsonl has everything"
    print(f"mmtx: warning: {text}", file=sys.stderr, flush=True)
