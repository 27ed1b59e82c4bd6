"""How long, on what, and how often to look: from config to Lightning's Trainer."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only

from mmtx.errors import InvalidValue, check_within
from mmtx.process.launch import Launch, launch
from mmtx.training.precision import PrecisionName, precision_plugin

STRATEGIES = {"auto": DDPStrategy, "ddp": DDPStrategy, "fsdp2": ModelParallelStrategy}


MOST_STEPS = 10**15
"""A loader's length is an integer of the machine."""

LONGEST_WAIT_S = 1_000_000
"""The system takes a time to wait as milliseconds, in 31 bits."""


class Training:
    """The length of a run and the devices it runs on.

    Args:
        max_steps: optimiser steps; None: as many as `max_epochs` gives. The smaller of the two ends the run.
        max_epochs: passes over the training samples.
        accelerator: ``gpu`` is ``cuda``; ``auto`` takes what there is.
        devices: how many, or auto.
        num_nodes: machines.
        strategy: with several devices, ``ddp`` (auto) or ``fsdp2``.
        precision: of the weights (``true``), or of most operations on float32 weights (``mixed``).
        accumulate_grad_batches: micro-batches of an optimiser step.
        val_every_steps: optimiser steps between validations; None: once an epoch.
        nonfinite: what follows a loss or gradient that is not finite: ``stop`` the run before the weights change, or
            ``skip`` the step.
        max_skips: steps in a row that may be skipped.
        data_timeout_s: how long to wait for a batch of a worker before it is taken for hung; None: for ever.
    """

    def __init__(
        self,
        *,
        max_steps: int | None,
        max_epochs: float | None,
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"],
        devices: int | Literal["auto"],
        num_nodes: int,
        strategy: Literal["auto", "ddp", "fsdp2"],
        precision: PrecisionName,
        accumulate_grad_batches: int,
        val_every_steps: int | None,
        nonfinite: Literal["stop", "skip"],
        max_skips: int,
        data_timeout_s: float | None,
    ) -> None:
        for key, given, least in (
            ("max_steps", max_steps, 1),
            ("accumulate_grad_batches", accumulate_grad_batches, 1),
            ("num_nodes", num_nodes, 1),
            ("val_every_steps", val_every_steps, 1),
            ("max_skips", max_skips, 1),
            ("data_timeout_s", data_timeout_s, 1),
        ):
            if given is not None and given < least:
                raise InvalidValue(key, given, f"must be at least {least}")
        if max_steps is not None:
            check_within("max_steps", max_steps, 1, MOST_STEPS)
        if data_timeout_s is not None and data_timeout_s > LONGEST_WAIT_S:
            raise InvalidValue(
                "data_timeout_s", data_timeout_s, f"must be at most {LONGEST_WAIT_S}; null waits for ever"
            )
        if max_epochs is not None and not 0 < max_epochs < math.inf:
            raise InvalidValue("max_epochs", max_epochs, "must be more than 0, and finite")
        if max_steps is None and max_epochs is None:
            raise InvalidValue("max_steps", None, "and max_epochs are both null; a run needs an end")
        if devices != "auto" and devices < 1:
            raise InvalidValue("devices", devices, "must be auto or at least 1")
        self.max_steps, self.max_epochs = max_steps, max_epochs
        self.accelerator, self.devices, self.num_nodes = accelerator, devices, num_nodes
        self.strategy, self.precision = strategy, precision
        self.accumulate_grad_batches, self.val_every_steps = accumulate_grad_batches, val_every_steps
        self.max_skips = {"stop": 0, "skip": max_skips}[nonfinite]
        self.data_timeout_s = data_timeout_s

    @property
    def device_type(self) -> str:
        """As torch names it: ``cpu``, ``cuda`` or ``mps``."""
        if self.accelerator != "auto":
            return {"gpu": "cuda"}.get(self.accelerator, self.accelerator)
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    @property
    def num_devices(self) -> int:
        """Ranks on this machine.

        Raises:
            InvalidValue: it has not got the accelerator, or not so many.
        """
        if self.device_type == "mps":
            if not torch.backends.mps.is_available():
                built = "" if torch.backends.mps.is_built() else ": this PyTorch was built without it"
                raise InvalidValue("accelerator", self.accelerator, f"finds no GPU of Apple's{built}", "cpu")
            return 1
        on_gpu = self.device_type == "cuda"
        available = torch.cuda.device_count() if on_gpu else None
        if on_gpu and not available:
            raise InvalidValue("accelerator", self.accelerator, "finds no GPU", "cpu")
        if isinstance(self.devices, int):
            if available is not None and self.devices > available:
                raise InvalidValue("devices", self.devices, "is more than there are", str(available))
            return self.devices
        return available or 1

    @property
    def num_ranks(self) -> int:
        return self.num_devices * self.num_nodes

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are spread over ranks."""
        return self.num_ranks > 1 and STRATEGIES[self.strategy] is ModelParallelStrategy

    def samples_per_step(self, batch_size: int) -> int:
        """Samples of an optimiser step, of all micro-batches and ranks."""
        return batch_size * self.accumulate_grad_batches * self.num_ranks

    def total_steps(self, num_samples: int, batch_size: int) -> int:
        """Optimiser steps of the run, for a data set and a micro-batch of one rank."""
        by_epochs = math.inf
        if self.max_epochs is not None:
            by_epochs = math.ceil(self.max_epochs * num_samples / self.samples_per_step(batch_size))
        return int(min(self.max_steps or math.inf, by_epochs))

    def trainer(
        self, *, total_steps: int, epoch_steps: int, run_dir: Path, loggers: list[Logger], callbacks: list[Callback]
    ) -> pl.Trainer:
        """Lightning's Trainer. One pass of its loop is the whole run: the loader ends with the last step."""
        every = min(self.val_every_steps or epoch_steps, total_steps)
        for name in [name for name in os.environ if name.startswith("PL_TRAINER_")]:
            del os.environ[name]  # Lightning would take from there what it is not given here
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator=self.accelerator,
            devices=self.num_devices,
            num_nodes=self.num_nodes,
            strategy=self._strategy(),
            plugins=[Ranks(launch(), self.num_devices), precision_plugin(self.precision, self.device_type)],
            val_check_interval=every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            default_root_dir=run_dir,
            logger=loggers,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,  # weights are swapped with their average around validation
        )
        # Lightning's own handlers would end a loop between two hooks, before anything is saved
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def _strategy(self) -> str | Strategy:
        if self.num_ranks == 1:
            return "auto"
        if self.is_sharded:
            return ModelParallelStrategy(
                data_parallel_size=self.num_ranks, tensor_parallel_size=1, save_distributed_checkpoint=False
            )
        backend = "nccl" if self.device_type == "cuda" else "gloo"
        return DDPStrategy(process_group_backend=backend)


class Ranks(ClusterEnvironment):
    """What Lightning knows of ranks. It would else look for launchers by itself, and find what is none.

    Args:
        launch: the place of this process.
        num_devices: ranks of each machine.
    """

    def __init__(self, launch: Launch, num_devices: int) -> None:
        super().__init__()
        self._launch, self._num_devices = launch, num_devices
        self.set_global_rank(launch.rank)

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._launch.address

    @property
    def main_port(self) -> int:
        return self._launch.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._launch.num_ranks

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        return self._launch.rank

    def set_global_rank(self, rank: int) -> None:
        vars(rank_zero_only)["rank"] = self._launch.rank  # Lightning has read it from the environment by itself

    def local_rank(self) -> int:
        return self._launch.local_rank

    def node_rank(self) -> int:
        return self._launch.rank // self._num_devices
