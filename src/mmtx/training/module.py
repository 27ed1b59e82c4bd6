"""The LightningModule: one optimiser step over a list of micro-batches, and evaluation by sums and counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.module import DataModule
from mmtx.evaluate import acting_metrics, stage_metrics
from mmtx.learner import Learner
from mmtx.objectives.base import Score
from mmtx.training.ema import WeightAverage
from mmtx.training.optimisation import Optimisation, clip


class MultimodalModule(pl.LightningModule):
    """Trains a `Learner`.

    A batch of the training loader is one optimiser step: a list of micro-batches. How many predictions they hold is
    known before anything is computed (`Objective.count`) and summed over ranks first, so the gradient is that of the
    mean over all predictions of the step, whatever the ranks, the accumulation and the ragged lengths.

    Args:
        learner: model and objectives.
        optimisation: optimiser, schedule, clipping, average.
        data: loaders.
        total_steps: optimiser steps of the run.
        accumulate: micro-batches of a step.
        log_every_steps: how often training metrics are logged.
        seed: of dropout, made different on every rank.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        optimisation: Optimisation,
        data: DataModule,
        total_steps: int,
        accumulate: int,
        log_every_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner, self.optimisation, self.data = learner, optimisation, data
        self.total_steps, self.accumulate, self.log_every_steps, self.seed = (
            total_steps,
            accumulate,
            log_every_steps,
            seed,
        )
        self.average: WeightAverage | None = None
        self.metrics: dict[str, float] = {}
        self._sharded = False
        self._totals: dict[str, Tensor] = {}
        self._stats: dict[str, list[str]] = {}
        self._clock, self._tokens, self._places = time.perf_counter(), 0, 0
        self._grad_norm: Tensor | None = None

    # ---------------------------------------------------------------- set-up

    def configure_model(self) -> None:
        """Shards blocks, then everything else, where the strategy asks for FSDP2."""
        if self.device_mesh is None or self._sharded:
            return
        self._sharded = True
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        model = self.learner.model
        for stack in (model.backbone, model.encoder):
            for block in stack.blocks if stack is not None else ():
                fully_shard(block, mesh=mesh)
        fully_shard(self.learner, mesh=mesh)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimisation.optimizer(self.learner)
        steps_per_epoch = self.data.num_train / self.samples_per_step

        def factor(step: int) -> float:
            return self.optimisation.factor(step, self.total_steps, steps_per_epoch)

        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)]

    @property
    def samples_per_step(self) -> int:
        """Samples of an optimiser step, of all ranks and micro-batches."""
        return self.data.batch_size * self.accumulate * self.trainer.world_size

    def train_dataloader(self) -> Any:
        return self.data.train_loader(
            num_steps=self.total_steps,
            accumulate=self.accumulate,
            rank=self.global_rank,
            num_ranks=self.trainer.world_size,
        )

    def val_dataloader(self) -> Any:
        return self._eval_loader("val")

    def test_dataloader(self) -> Any:
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> Any:
        loader = self.data.eval_loader(split, rank=self.global_rank, num_ranks=self.trainer.world_size)
        return [] if loader is None else loader

    # ---------------------------------------------------------------- training

    def on_fit_start(self) -> None:
        torch.manual_seed(self.seed + self.global_rank)
        if self.optimisation.ema_decay is not None and self.average is None:
            self.average = WeightAverage(self.learner, self.optimisation.ema_decay)

    def training_step(self, batches: list[Batch], _: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        counts = self._sum_over_ranks(self._counts(batches))
        optimizer.zero_grad()
        scores = None
        for index, batch in enumerate(batches):
            with nullcontext() if index == len(batches) - 1 else self._without_sync():
                new = self.learner(batch)
                self.manual_backward(self._loss(new, counts))
            scores = _add(scores, new)
        optimizer.step()
        scheduler = self.lr_schedulers()
        lr = float(scheduler.get_last_lr()[0])  # type: ignore[union-attr]
        scheduler.step()  # type: ignore[union-attr]
        if self.average is not None:
            self.average.update(self.learner)
        for batch in batches:
            self._count_tokens(batch)
        if self.global_step % self.log_every_steps == 0 or self.global_step in (1, self.total_steps):
            self._log_training(scores or {}, lr)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips, after any loss scaling has been undone."""
        logs = (self.global_step + 1) % self.log_every_steps == 0
        if self.optimisation.clip_norm is not None or logs:
            self._grad_norm = clip(self.learner.parameters(), self.optimisation.clip_norm)

    def _counts(self, batches: list[Batch]) -> Tensor:
        names = self.learner.objectives
        counts = [[self.learner.objective(name).count(batch) for batch in batches] for name in names]
        return torch.stack([torch.stack(each).sum() for each in counts]).float()

    def _loss(self, scores: dict[str, Score], counts: Tensor) -> Tensor:
        """What this micro-batch adds to the mean over the step; ranks are averaged afterwards, hence their number."""
        losses = [
            self.learner.objective(name).weight * score.loss_sum * (self.trainer.world_size / count.clamp(min=1))
            for (name, score), count in zip(scores.items(), counts, strict=True)
        ]
        return torch.stack(losses).sum()

    def _without_sync(self) -> Any:
        """Leaves gradients of all but the last micro-batch unreduced, where the strategy can."""
        strategy = self.trainer.strategy
        return strategy.model.no_sync() if isinstance(strategy, DDPStrategy) else nullcontext()  # type: ignore

    def _count_tokens(self, batch: Batch) -> None:
        """Real tokens of the set, and places for them in a padded computation. On an accelerator, lengths would have
        to be read, unless the host knows them: then places count as tokens."""
        if self.device.type == "cpu" or batch.is_packed:
            real, places = self.learner.model.count_tokens(batch)
            self._tokens, self._places = self._tokens + real, self._places + places
            return
        for name in self.learner.model.names:
            lengths = torch.full((len(batch),), _padded_length(batch, name, self.learner))
            self._tokens += int(self.learner.model.tokenizer(name).num_tokens(lengths).sum())

    def _log_training(self, scores: dict[str, Score], lr: float) -> None:
        metrics = self._metrics("train", {name: (score.vector(), list(score.stats)) for name, score in scores.items()})
        now = time.perf_counter()
        metrics["train/lr"] = lr
        metrics["train/tokens_per_second"] = self._tokens * self.trainer.world_size / max(now - self._clock, 1e-9)
        metrics["train/epoch"] = self.global_step * self.samples_per_step / self.data.num_train
        if self._grad_norm is not None:
            metrics["train/grad_norm"] = float(self._grad_norm)
        if self._places:
            metrics["train/fill"] = self._tokens / self._places
        self._clock, self._tokens, self._places = now, 0, 0
        self._publish(metrics)

    # ---------------------------------------------------------------- evaluation

    def validation_step(self, batches: list[Batch], _: int) -> None:
        self._add_to_totals(batches)

    def test_step(self, batches: list[Batch], _: int) -> None:
        self._add_to_totals(batches)

    def on_validation_epoch_start(self) -> None:
        self._totals, self._stats = {}, {}
        self._swap_average()
        self._gather(True)

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    def _add_to_totals(self, batches: list[Batch]) -> None:
        for batch in batches:
            for name, score in self.learner(batch).items():
                vector = score.vector()
                self._totals[name] = self._totals[name] + vector if name in self._totals else vector
                self._stats[name] = list(score.stats)

    def _end_evaluation(self, stage: str) -> None:
        parts = {name: (total, self._stats[name]) for name, total in self._totals.items()}
        metrics = self._metrics(stage, parts)
        if self.trainer.is_global_zero:
            metrics |= acting_metrics(self.learner, self.data.source, stage)
        self._publish(metrics)
        self._gather(False)
        self._swap_average()
        self._clock, self._tokens, self._places = time.perf_counter(), 0, 0  # time spent here is not training

    def test_by_acting(self) -> None:
        """The test of data whose only test is its world."""
        self.learner.eval()
        with self.averaged():
            self._gather(True)
            self._publish(acting_metrics(self.learner, self.data.source, "test") if self.trainer.is_global_zero else {})
            self._gather(False)

    def _gather(self, whole: bool) -> None:
        """Keeps sharded parameters whole on every rank while texts are decoded, which takes each rank its own time."""
        if not self._sharded:
            return
        from torch.distributed.fsdp import FSDPModule

        for module in self.learner.modules():
            if isinstance(module, FSDPModule):
                module.set_reshard_after_forward(not whole, recurse=False)
                module.unshard() if whole else module.reshard()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the weights are their moving average, if there is one."""
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    def _swap_average(self) -> None:
        if self.average is not None:
            self.average.swap(self.learner)

    # ---------------------------------------------------------------- metrics

    def _metrics(self, stage: str, parts: dict[str, tuple[Tensor, list[str]]]) -> dict[str, float]:
        summed = {name: (self._sum_over_ranks(vector).cpu(), stats) for name, (vector, stats) in parts.items()}
        return stage_metrics(self.learner, stage, summed)

    def _publish(self, metrics: dict[str, float]) -> None:
        if not metrics:
            return
        self.metrics |= metrics
        if self.trainer.is_global_zero:
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, self.global_step)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum") if self.trainer.world_size > 1 else values

    # ---------------------------------------------------------------- checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "average" in checkpoint:
            assert self.optimisation.ema_decay is not None
            self.average = WeightAverage(self.learner, self.optimisation.ema_decay)
            self.average.load_state_dict(checkpoint["average"])


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether parameters are spread over ranks, so that modules can only be called as a whole."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def _add(total: dict[str, Score] | None, new: dict[str, Score]) -> dict[str, Score]:
    if total is None:
        return new
    return {
        name: Score.from_vector(total[name].vector() + score.vector(), list(score.stats)) for name, score in new.items()
    }


def _padded_length(batch: Batch, name: str, learner: Learner) -> int:
    ragged = [key for key, field in learner.specs[name].fields.items() if field.ragged]
    return batch[name][ragged[0]].shape[1] if ragged else 1
