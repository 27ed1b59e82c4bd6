"""The LightningModule: one optimiser step over a list of micro-batches, and evaluation by sums and counts."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.data.seeding import seed_step
from mmtx.data.skipped_samples import check_skipped, count_skipped
from mmtx.evaluate import Totals, add_scores, add_totals, stage_metrics, under
from mmtx.learner import Learner
from mmtx.objectives.base import Score
from mmtx.training.ema import WeightAverage
from mmtx.training.evaluated import EvaluatedModule
from mmtx.training.nonfinite import Watch, keep_batches
from mmtx.training.optimisation import Optimisation, clip, grad_norm
from mmtx.training.state import restore, scaler_of
from mmtx.training.unhindered import Unhindered


class MultimodalModule(EvaluatedModule):
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
        seed: of dropout, made different for every step and rank.
        max_skips: steps in a row that may be left out because a loss or gradient is not finite.
        data_timeout_s: how long to wait for a worker's batch; None: for ever.
        checkpoint: what to go on from; None: from the start.

    Attributes:
        is_between_steps: whether weights, optimiser, schedule and average are all of the same step, and it
            is logged.
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
        log_every_steps: int,
        seed: int,
        max_skips: int,
        data_timeout_s: float | None,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(learner=learner, data=data, seed=seed)
        self.automatic_optimization = False
        self.optimisation = optimisation
        self.total_steps, self.accumulate, self.log_every_steps = total_steps, accumulate, log_every_steps
        self.data_timeout_s, self.watch, self._checkpoint = data_timeout_s, Watch(max_skips), checkpoint
        self.optimizer: torch.optim.Optimizer
        self.scheduler: torch.optim.lr_scheduler.LambdaLR
        self.is_between_steps = True
        self._grad_norm: Tensor | None = None
        self._grad_norms: dict[str, Tensor] = {}
        self._left_out = 0
        self.logged: int | None = None

    # ---------------------------------------------------------------- set-up

    def configure_model(self) -> None:
        """Shards blocks, then everything else, where the strategy asks for FSDP2."""
        if self.device_mesh is None or self._sharded:
            return
        self._sharded = True
        self.trainer.precision_plugin.convert_module(self)  # a shard keeps the type that it is made with
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        model = self.learner.model
        for stack in (model.backbone, model.encoder):
            for block in stack.blocks if stack is not None else ():
                fully_shard(block, mesh=mesh)
        fully_shard(self.learner, mesh=mesh)

    def configure_optimizers(self) -> Any:
        self.optimizer = self.optimisation.optimizer(self.learner)
        steps_per_epoch = self.data.num_train / self.samples_per_step

        def factor(step: int) -> float:
            return self.optimisation.factor(step, self.total_steps, steps_per_epoch)

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        return [self.optimizer], [self.scheduler]

    @property
    def samples_per_step(self) -> int:
        """Samples of an optimiser step, of all ranks and micro-batches."""
        return self.data.batch_size * self.accumulate * self.trainer.world_size

    def train_dataloader(self) -> Any:
        loader = self.data.train_loader(
            num_steps=self.total_steps,
            accumulate=self.accumulate,
            rank=self.global_rank,
            num_ranks=self.trainer.world_size,
            first_step=self.global_step,
            timeout_s=self.data_timeout_s,
        )
        return Unhindered(loader) if self.trainer.world_size == 1 else loader  # several ranks end behind a step

    # ---------------------------------------------------------------- training

    def on_fit_start(self) -> None:
        if self.optimisation.ema_decay is not None and self.average is None:
            self.average = WeightAverage(self.learner, self.optimisation.ema_decay)
        if self._checkpoint is not None:
            restore(self, self._checkpoint)
            self._checkpoint = None

    def on_train_start(self) -> None:
        """A run that was stopped between a step and the validation behind it validates first."""
        every = self.trainer.val_check_batch
        if self.global_step and every and self.global_step % every == 0 and self.validated != self.global_step:
            self.trainer.validating = True
            self.trainer.fit_loop.epoch_loop.val_loop.run()
            self.trainer.training = True

    def on_train_batch_start(self, *_: Any) -> None:
        seed_step(self.seed, self.global_step, self.global_rank)

    def training_step(self, batches: list[Batch], _: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        counts = self._sum_over_ranks(self._counts(batches))
        optimizer.zero_grad()
        totals: dict[str, Totals] = {}
        losses = []
        for index, batch in enumerate(batches):
            with nullcontext() if index == len(batches) - 1 else self._without_sync():
                new = self.learner(batch)
                loss = self._loss(new, counts) + (self._touch() if index == len(batches) - 1 else 0.0)
                self.manual_backward(loss)
            if self._is_logged(self.global_step + 1):
                add_scores(totals.setdefault(batch.part, {}), new)
            losses.append(loss.detach())
        self._grad_norm = None
        if scaler_of(self) is None:
            self._clip()
        mean_loss, left_out = self._agreed_loss(torch.stack(losses), batches)
        if mean_loss is not None:
            self._update(optimizer, batches, totals, mean_loss, left_out)
        else:
            self._left_out += left_out
            self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_completed()
            self.scheduler.step()

    def _update(
        self, optimizer: Any, batches: list[Batch], totals: dict[str, Totals], loss: float, left_out: int
    ) -> None:
        self.is_between_steps = False  # from here on, what is kept is of the new step
        optimizer.step()
        self._left_out += left_out
        self._say(self.watch.good(loss, self.global_step))
        lr = float(self.scheduler.get_last_lr()[0])
        self.scheduler.step()
        if self.average is not None:
            self.average.update(self.learner)
        self.throughput.count(batches)
        if self._is_logged(self.global_step):
            self._log_training(totals, lr)
        self.is_between_steps = True

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips where there is a loss scaler: of true gradients, which Lightning leaves to a fused optimiser."""
        if (scaler := scaler_of(self)) is not None:
            scaler.unscale_(optimizer)
            self._clip()

    def _is_logged(self, step: int) -> bool:
        return step % self.log_every_steps == 0 or step in (1, self.total_steps)

    def _clip(self) -> None:
        model = self.learner.model
        if self._is_logged(self.global_step + 1):
            self._grad_norms = {name: grad_norm(model.own_parameters(name)) for name in model.names}
        self._grad_norm = clip(self.learner.parameters(), self.optimisation.clip_norm)

    # ---------------------------------------------------------------- what ranks agree on

    def _agreed_loss(self, losses: Tensor, batches: list[Batch]) -> tuple[float | None, int]:
        """The loss of all ranks, None where it or a gradient is no number; and how many samples they could not read.
        The only place where a step waits for the device.

        Raises:
            NotFinite: they are not, once too often.
            UserError: too many samples could not be read.
        """
        norm = losses.new_zeros(()) if self._grad_norm is None else self._grad_norm
        left_out = count_skipped(batches)[0]
        loss, norm_sum, bad = self.agree(torch.stack([losses.sum(), norm.to(losses), left_out.to(losses)]))
        step, num_ranks = self.global_step + 1, self.trainer.world_size
        seen = max(step * self.samples_per_step, self.data.num_train)
        check_skipped(self._left_out + int(bad), seen, self.data.max_bad_share)
        if math.isfinite(loss) and math.isfinite(norm_sum):
            return loss / num_ranks, int(bad)
        folder, own, samples = Path(self.trainer.default_root_dir) / "not_finite", losses.tolist(), []
        if math.isfinite(loss) or not all(map(math.isfinite, own)):
            samples = keep_batches(batches, own, folder / f"step{step}_rank{self.global_rank}.pt")
        of_ranks = [samples] * num_ranks
        if num_ranks > 1:
            torch.distributed.all_gather_object(of_ranks, samples)
        ids = sorted(i for of_rank in of_ranks for i in of_rank)
        told = f"loss {loss / num_ranks:.4g}, grad_norm {norm_sum / num_ranks:.4g}; samples {ids}, saved in {folder}"
        self._say(self.watch.bad(told, step))
        return None, int(bad)

    def _say(self, text: str | None) -> None:
        if text and self.trainer.is_global_zero:
            print(f"mmtx: warning: {text}", file=sys.stderr, flush=True)

    def _counts(self, batches: list[Batch]) -> Tensor:
        counts = torch.zeros(len(self.learner.objectives), device=self.device)
        for index, name in enumerate(self.learner.objectives):
            objective = self.learner.objective(name)
            for batch in filter(objective.applies, batches):
                counts[index] += objective.count(batch)
        return counts

    def _loss(self, scores: dict[str, Score], counts: Tensor) -> Tensor:
        """What this micro-batch adds to the mean over the step; ranks are averaged afterwards, hence their number."""
        count_of = dict(zip(self.learner.objectives, counts, strict=True))
        losses = [
            self.learner.objective(name).weight
            * score.loss_sum
            * (self.trainer.world_size / count_of[name].clamp(min=1))
            for name, score in scores.items()
        ]
        return torch.stack(losses).sum()

    def _touch(self) -> Tensor | float:
        """Nothing, of every parameter that learns. Ranks wait for each other's gradients, also where one of them had no
        samples of a part; and a parameter without a gradient would miss the weight decay of the step."""
        if len(self.data.source.parts) == 1:
            return 0.0
        learnt = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        return 0.0 * torch.stack([parameter.flatten()[0] for parameter in learnt]).sum()

    def _without_sync(self) -> Any:
        """Leaves gradients of all but the last micro-batch unreduced, where the strategy can."""
        strategy = self.trainer.strategy
        return strategy.model.no_sync() if isinstance(strategy, DDPStrategy) else nullcontext()  # type: ignore

    def _log_training(self, totals: dict[str, Totals], lr: float) -> None:
        self.logged = self.global_step
        metrics = self._training_metrics(totals)
        metrics |= self.throughput.metrics(self._sum_over_ranks)
        metrics["train/lr"] = lr
        metrics["train/epoch"] = self.global_step * self.samples_per_step / self.data.num_train
        if self._grad_norm is not None:
            metrics["train/grad_norm"] = float(self._grad_norm)
            metrics |= {f"train/grad_norm/{name}": float(norm) for name, norm in self._grad_norms.items()}
        if self._left_out:
            metrics["train/skipped_samples"] = float(self._left_out)
        self._publish(metrics | self.watch.counts())

    def _training_metrics(self, totals: dict[str, Totals]) -> dict[str, float]:
        """Of this step on all ranks, ``train/...``; where the data has parts, ``train/<part>/...`` too."""
        metrics: dict[str, float] = {}
        whole: Totals = {}
        for part, own in self._of_all_ranks(totals).items():
            metrics |= stage_metrics(self.learner, under("train", part), own) if part else {}
            add_totals(whole, own)
        nothing: tuple[Tensor, list[str]] = torch.zeros(2, dtype=torch.double), []
        return metrics | stage_metrics(
            self.learner, "train", {name: whole.get(name, nothing) for name in self.learner.objectives}
        )

    def _of_all_ranks(self, totals: dict[str, Totals]) -> dict[str, Totals]:
        """The sums of each part, added up over ranks, some of which may have had no samples of it."""
        own = {
            part: {name: (vector.cpu(), stats) for name, (vector, stats) in of_part.items()}
            for part, of_part in totals.items()
        }
        of_ranks = [own] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(of_ranks, own)
        summed: dict[str, Totals] = {}
        for of_rank in of_ranks:
            for part, of_part in of_rank.items():
                add_totals(summed.setdefault(part, {}), of_part)
        return summed

    # ---------------------------------------------------------------- checkpoint

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of this object."""
        counted = {"watch": self.watch.state_dict(), "left_out": self._left_out}
        return {"metrics": dict(self.metrics), "validated": self.validated, **counted}

    def set_progress(self, state: dict[str, Any]) -> None:
        self.metrics, self.validated = dict(state["metrics"]), state["validated"]
        self.watch.load_state_dict(state["watch"])
        self._left_out = state.get("left_out", 0)


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether parameters are spread over ranks, so that modules can only be called as a whole."""
    return isinstance(trainer.strategy, ModelParallelStrategy)
