"""How long a run trains, on what, and how often it validates: from config to Lightning's Trainer."""

import math
import os
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from mmtx.errors import InvalidValue, check_at_least, check_within
from mmtx.process.cores import cores
from mmtx.process.launch import launch
from mmtx.training.devices import Accelerator, LaunchedRanks, count_devices, device_type
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
        peak_tflops: operations of each device in a second, in 10¹², for ``train/mfu``; None: measured on a GPU when
            training starts, unknown on a CPU.
        profile: trace steps 6 to 8, and write where their time goes to ``profile/`` in the run directory.
    """

    def __init__(
        self,
        *,
        max_steps: int | None,
        max_epochs: float | None,
        accelerator: Accelerator,
        devices: int | Literal["auto"],
        num_nodes: int,
        strategy: Literal["auto", "ddp", "fsdp2"],
        precision: PrecisionName,
        accumulate_grad_batches: int,
        val_every_steps: int | None,
        nonfinite: Literal["stop", "skip"],
        max_skips: int,
        data_timeout_s: float | None,
        peak_tflops: float | None = None,  # absent in stored configs of earlier versions
        profile: bool = False,  # the same
    ) -> None:
        steps = {"max_steps": max_steps, "val_every_steps": val_every_steps, "max_skips": max_skips}
        counts = {"accumulate_grad_batches": accumulate_grad_batches, "num_nodes": num_nodes}
        for key, given in {**steps, **counts, "data_timeout_s": data_timeout_s}.items():
            check_at_least(key, given, 1)
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
        if peak_tflops is not None and not 0 < peak_tflops < math.inf:
            raise InvalidValue("peak_tflops", peak_tflops, "must be more than 0, and finite; null measures it on a GPU")
        self.data_timeout_s, self.peak_tflops, self.profile = data_timeout_s, peak_tflops, profile

    @property
    def device_type(self) -> str:
        """As torch names it: ``cpu`` or ``cuda``."""
        return device_type(self.accelerator)

    @property
    def num_devices(self) -> int:
        """Ranks on this machine. Raises InvalidValue if it lacks the accelerator, or so many devices of it."""
        return count_devices(self.accelerator, self.devices)

    @property
    def num_ranks(self) -> int:
        return self.num_devices * self.num_nodes

    @property
    def free_cores(self) -> int:
        """Cores of this machine that each rank has beside its GPU; 0 where it has none, and the cores compute."""
        return cores() // self.num_devices if self.device_type == "cuda" else 0

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
        self,
        *,
        total_steps: int,
        epoch_steps: int,
        run_dir: Path,
        loggers: list[Logger],
        callbacks: list[Callback],
        log_every_steps: int = 1,
    ) -> pl.Trainer:
        """Lightning's Trainer. One pass of its loop is the whole run: the loader ends with the last step.
        `log_every_steps` is how often callbacks of Lightning's log."""
        every = min(self.val_every_steps or epoch_steps, total_steps)
        for name in [name for name in os.environ if name.startswith("PL_TRAINER_")]:
            del os.environ[name]  # Lightning would take from there what it is not given here
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator=self.device_type,
            devices=self.num_devices,
            num_nodes=self.num_nodes,
            strategy=self._strategy(),
            plugins=[LaunchedRanks(launch(), self.num_devices), precision_plugin(self.precision, self.device_type)],
            val_check_interval=every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            default_root_dir=run_dir,
            log_every_n_steps=log_every_steps,
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
        # no static_graph: micro-batches of a mixture have graphs of their own
        return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)
