"""A few optimiser steps of an experiment, of which nothing is kept."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from mmtx.config.schema import Config
from mmtx.experiment import Experiment
from mmtx.run.fit import module_of, quieten


def shortened(config: Config, num_steps: int, optim: Mapping[str, Any]) -> Config:
    """The config of `num_steps` steps on one device, each of them logged, with changed keys of ``optim``."""
    one_device = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    length = {"max_steps": num_steps, "max_epochs": None, "val_every_steps": None}
    changed = {"trainer": {**config["trainer"], **one_device, **length}, "optim": {**config["optim"], **optim}}
    return {**config, **changed, "log_every_steps": 1, "callbacks": {}, "logger": {}}


def train_shortly(experiment: Experiment, callbacks: Sequence[Callback] = (), batches: Any = None) -> None:
    """Trains in place, without validation or files.

    Args:
        experiment: of a `shortened` config.
        callbacks: that look on.
        batches: a loader of steps, in the place of the experiment's.
    """
    quieten()
    pl.seed_everything(experiment.config["seed"], workers=False, verbose=False)
    steps = experiment.total_steps
    with tempfile.TemporaryDirectory() as folder:
        trainer = experiment.training.trainer(
            total_steps=steps, epoch_steps=steps, run_dir=Path(folder), loggers=[], callbacks=list(callbacks)
        )
        trainer.limit_val_batches = 0
        trainer.fit(module_of(experiment), train_dataloaders=batches)
