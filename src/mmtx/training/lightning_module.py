"""The LightningModule: one optimiser step over a list of micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.data.seeding import block_generator, seed_step
from mmtx.data.skipped_samples import check_skipped
from mmtx.evaluate import Evaluation
from mmtx.learner import Learner
from mmtx.training.copied_ahead import CopiedAhead, SideStream
from mmtx.training.first_pass import known_sums
from mmtx.training.followed_layers import FollowedLayers
from mmtx.training.gradient_clipping import clip, grad_norm
from mmtx.training.guarded_step import guarded, is_guarded
from mmtx.training.interruptible_loader import InterruptibleLoader
from mmtx.training.logged_row import is_logged, logged_row
from mmtx.training.loss_normalisation import count_predictions, normalised_loss, zero_of_all_parameters
from mmtx.training.nonfinite import OpenStep
from mmtx.training.optimisation import Optimisation
from mmtx.training.precision import dtype_of_products, loss_scaler
from mmtx.training.sharding import shard, without_sync
from mmtx.training.stages import Stages
from mmtx.training.step_outcome import JudgedModule
from mmtx.training.timed_loader import TimedLoader
from mmtx.training.utilisation import Utilisation


class MultimodalModule(JudgedModule):
    """Trains a `Learner`.

    A batch of the training loader is one optimiser step: a list of micro-batches. How many predictions they hold is
    known before anything is computed (`Objective.count`) and summed over ranks first, so the gradient is that of the
    mean over all predictions of the step, whatever the ranks, the accumulation and the ragged lengths.

    A step does not wait for the device (`JudgedModule`), but for two cases: one that is logged, and every step of an
    optimiser that is not guarded (`guarded_step`), or of a loss scaler.

    Args:
        learner: model and objectives.
        optimisation: optimiser, schedule, clipping, average.
        data: loaders.
        total_steps: optimiser steps of the run.
        accumulate: micro-batches of a step, on each rank.
        samples_per_step: of all ranks and micro-batches.
        log_every_steps: how often training metrics are logged.
        seed: of dropout, made different for every step and rank.
        max_skips: steps in a row that may be skipped because a loss or gradient is not finite.
        data_timeout_s: how long to wait for a worker's batch; None: for ever.
        peak_tflops: of each device; None: measured on a GPU, see `Utilisation`.
        restore: puts this object where a checkpoint was, before the first step; None: begins anew.

    Attributes:
        is_between_steps: whether weights and optimiser are of the same step, it is logged, and `finish_step` brings
            schedule and average there.
        logged: the step of the training metrics that were logged last.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        optimisation: Optimisation,
        data: DataModule,
        total_steps: int,
        accumulate: int,
        samples_per_step: int,
        log_every_steps: int,
        seed: int,
        max_skips: int,
        data_timeout_s: float | None,
        peak_tflops: float | None = None,
        restore: Callable[[MultimodalModule], None] | None = None,
    ) -> None:
        super().__init__(learner=learner, data=data, seed=seed, max_skips=max_skips)
        self.automatic_optimization = False
        self.optimisation = optimisation
        self.total_steps, self.log_every_steps = total_steps, log_every_steps
        self.accumulate, self.samples_per_step = accumulate, samples_per_step
        self.data_timeout_s, self._restore = data_timeout_s, restore
        self.utilisation, self._followed = Utilisation(learner, peak_tflops), FollowedLayers(learner.model)
        self.optimizer: torch.optim.Optimizer
        self._weights: list[torch.nn.Parameter]
        self._stages: Stages
        self.is_between_steps = True
        self.logged: int | None = None
        self._sharded = False
        self._grad_norm: Tensor | None = None
        self._grad_norms: dict[str, Tensor] = {}

    # ---------------------------------------------------------------- set-up

    def configure_model(self) -> None:
        """Shards parameters, where the strategy is FSDP2."""
        if self.device_mesh is None or self._sharded:
            return
        self._sharded = True
        self.trainer.precision_plugin.convert_module(self)  # a shard keeps the type that it is made with
        shard(self.learner, self.device_mesh["data_parallel"], self.trainer.precision_plugin)

    def configure_optimizers(self) -> Any:
        self.optimizer = self.optimisation.optimizer(self.learner)
        self._weights = list(self.learner.parameters())  # the same from here on
        self._stages = Stages(self.optimisation.stages, self.learner)
        steps_per_epoch = self.data.num_train / self.samples_per_step

        def factor(step: int) -> float:
            return self.optimisation.factor(step, self.total_steps, steps_per_epoch)

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        return [self.optimizer], [self.scheduler]

    def train_dataloader(self) -> Any:
        loader = self.data.train_loader(
            num_steps=self.total_steps,
            accumulate=self.accumulate,
            rank=self.global_rank,
            num_ranks=self.trainer.world_size,
            first_step=self.global_step,
            timeout_s=self.data_timeout_s,
            device=self.device,
        )
        own = InterruptibleLoader(loader) if self.trainer.world_size == 1 else loader  # several ranks end after a step
        timed = TimedLoader(own, self.throughput.waited)
        return CopiedAhead(timed, SideStream(self.device)) if self.device.type == "cuda" else timed

    def on_fit_start(self) -> None:
        if self.average is None:
            self.average = self.optimisation.average(self.learner, self.optimizer)
        if self._restore is not None:
            self._restore(self)
            self._restore = None
        else:
            for objective in self.learner.teaching:
                objective.begin(self.learner.model)
        self.utilisation.start(self.device, dtype_of_products(self.trainer.precision_plugin))

    def on_train_start(self) -> None:
        """A run that was stopped between a step and the validation that follows it validates first."""
        every = self.trainer.val_check_batch
        if self.global_step and every and self.global_step % every == 0 and self.validated != self.global_step:
            self.trainer.validating = True
            self.trainer.fit_loop.epoch_loop.val_loop.run()
            self.trainer.training = True

    # ---------------------------------------------------------------- a step

    def on_train_batch_start(self, *_: Any) -> None:
        seed_step(self.seed, self.global_step, self.global_rank)

    def training_step(self, batches: list[Batch], _: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        optimizer.zero_grad()
        self.agreed = set()
        self._evaluation = Evaluation(self.learner, "train", self.gather)
        prepared = [self._prepare(index, batch) for index, batch in enumerate(batches)]
        gather = self.gather if self.trainer.world_size > 1 else None
        with known_sums(self.learner, prepared, seed=self.on_train_batch_start, gather=gather):
            losses = self._watched_backward(batches, prepared)
        self._stages.rest(self.global_step)
        self._grad_norm = None
        if loss_scaler(self.trainer.precision_plugin) is None:
            self._clip()
        step = self._judged(losses, self._grad_norm, batches)
        self.finish_step()  # the one before, whose numbers have come meanwhile
        self._update(optimizer, step)
        seen = max(self.global_step * self.samples_per_step, self.data.num_train)
        check_skipped(self.skipped_samples, seen, self.data.max_bad_share)

    def _prepare(self, index: int, batch: Batch) -> dict[str, Batch]:
        """A micro-batch as its objectives make it, the same on any number of ranks."""
        block = index * self.trainer.world_size + self.global_rank
        return self.learner.prepare(batch, block_generator(self.seed, self.global_step, block, self.device))

    def _watched_backward(self, batches: list[Batch], prepared: list[dict[str, Batch]]) -> Tensor:
        counts = count_predictions(self.learner, prepared, self.device)
        with self.utilisation.watching(counts) if self._is_logged(self.global_step + 1) else nullcontext():
            return self._backward(batches, prepared, self.sum_over_ranks(counts))

    def _backward(self, batches: list[Batch], prepared: list[dict[str, Batch]], counts: Tensor) -> Tensor:
        """Adds up gradients of the mean loss of the step, which has so many predictions for each objective; gives what
        each micro-batch adds to that loss."""
        losses = []
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else without_sync(self.trainer, self.learner):
                scores = self.learner(prepared[index])
                self._followed.add(self.learner.statistics)
                loss = normalised_loss(self.learner, scores, counts, self.trainer.world_size)
                if is_last and len(self.data.source.parts) > 1:
                    loss = loss + zero_of_all_parameters(self.learner)
                self.manual_backward(loss)
            if self._is_logged(self.global_step + 1):
                self._evaluation.add_scores(batch.part, scores)
            losses.append(loss.detach())
        return torch.stack(losses)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips where there is a loss scaler: of true gradients, which Lightning leaves to a fused optimiser."""
        if (scaler := loss_scaler(self.trainer.precision_plugin)) is not None:
            scaler.unscale_(optimizer)
            self._clip()

    def _clip(self) -> None:
        model = self.learner.model
        if self._is_logged(self.global_step + 1):
            self._grad_norms = {name: grad_norm(model.own_parameters(name)) for name in model.names}
        self._grad_norm = clip(self._weights, self.optimisation.clip_norm)

    def _update(self, optimizer: Any, step: OpenStep) -> None:
        self.is_between_steps = False  # from here on, what is kept is of the new step
        if loss_scaler(self.trainer.precision_plugin) is None and is_guarded(self.optimizer):
            with guarded(self.optimizer, step.left_out):
                optimizer.step()
        elif step.counts:
            optimizer.step()
        else:
            self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_completed()
        self._followed.follow(self.sum_over_ranks, step.left_out)
        for objective in self.learner.teaching:
            objective.follow(self.learner.model, self.global_step / self.total_steps, step.left_out)
        self._open, self.is_between_steps = step, True
        if self._is_logged(self.global_step):
            self._log(self.optimisation.lr * self.scheduler.lr_lambdas[0](self.scheduler.last_epoch))

    def _is_logged(self, step: int) -> bool:
        return is_logged(step, self.log_every_steps, self.total_steps)

    def _log(self, lr: float) -> None:
        """The row of the step, if it counts."""
        if not self.finish_step():
            return
        self.is_between_steps, self.logged = False, self.global_step
        tokens, speed = self.throughput.tokens, self.throughput.metrics(self.sum_over_ranks)
        used = self.utilisation.metrics(speed, tokens, self.sum_over_ranks, self.gather)
        row = logged_row(
            self._evaluation.step_metrics() | speed | used,
            lr=lr,
            epoch=self.global_step * self.samples_per_step / self.data.num_train,
            grad_norm=self._grad_norm,
            grad_norms=self._grad_norms,
            skipped_samples=self.skipped_samples,
        )
        self._publish(row | self.watch.counts())
        self.is_between_steps = True
