"""The half of the LightningModule that evaluates: by sums and counts, with the average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mmtx.acting.policy_eval import play
from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.data.seeding import seed_step
from mmtx.data.skipped_samples import check_skipped, count_skipped
from mmtx.decoding.rollouts import Episode
from mmtx.evaluate import Totals, acting_metrics, add_scores, parts_metrics, under
from mmtx.learner import Learner
from mmtx.process.stopping import SIGNALS, Interrupted, Obey, obeyed, requested
from mmtx.training.alarms import Alarm
from mmtx.training.ema import WeightAverage
from mmtx.training.throughput import Throughput
from mmtx.training.unhindered import Unhindered


class EvaluatedModule(pl.LightningModule):
    """Validates and tests a `Learner`.

    Args:
        learner: model and objectives.
        data: loaders.
        seed: of what is random in an evaluation.

    Attributes:
        metrics: the newest of each, by name.
        average: of the weights, if there is one.
        validated: the step of the last whole validation.
        throughput: tokens of training since the last row of the log or the last evaluation.
        num_filmed: episodes of the test that keep their frames; for whoever shows them to ask.
        played: the episodes of the last evaluation by part of the data, for each return that was asked for.
        raised: what this rank wants all to do.
        alarms: what any rank wanted when they last agreed.
    """

    def __init__(self, *, learner: Learner, data: DataModule, seed: int) -> None:
        super().__init__()
        self.learner, self.data, self.seed = learner, data, seed
        self.metrics: dict[str, float] = {}
        self.average: WeightAverage | None = None
        self.validated: int | None = None
        self.num_filmed = 0
        self.played: dict[str, list[list[Episode]]] = {}
        self.raised: set[Alarm] = set()
        self.alarms: set[Alarm] = set()
        self._sharded = False
        self._parts: list[str] = []
        self._totals: dict[str, Totals] = {}
        self._left_out_of = torch.zeros(2)
        self.throughput = Throughput(learner.model)

    def val_dataloader(self) -> Any:
        return self._eval_loaders("val")

    def test_dataloader(self) -> Any:
        return self._eval_loaders("test")

    def _eval_loaders(self, split: str) -> Any:
        loaders = self.data.eval_loaders(split, rank=self.global_rank, num_ranks=self.trainer.world_size)
        self._parts = list(loaders)
        what = {"val": "validating, batch", "test": "testing, batch"}[split]
        return [Unhindered(loader, what, at_the_end=[]) for loader in loaders.values()]

    def validation_step(self, batches: list[Batch], _: int, dataloader_idx: int = 0) -> None:
        if batches:
            with self.cut_short():
                self._add_to_totals(batches, self._parts[dataloader_idx])

    def test_step(self, batches: list[Batch], _: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batches, _, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        self._totals, self._left_out_of = {}, torch.zeros(2, device=self.device)
        seed_step(self.seed, self.global_step, self.global_rank)
        self._swap_average()
        self._gather(True)

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("val")
        self.validated = self.global_step

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    def _add_to_totals(self, batches: list[Batch], part: str) -> None:
        self._left_out_of += count_skipped(batches).to(self.device)
        for batch in batches:
            add_scores(self._totals.setdefault(part, {}), self.learner(batch))

    def _end_evaluation(self, stage: str) -> None:
        summed = {part: self._summed(totals) for part, totals in self._totals.items()}
        metrics = parts_metrics(self.learner, stage, summed) | self._skipped(stage)
        with self.cut_short():
            metrics |= self._act(stage)
        self.stop_if_requested()
        self._publish(metrics)
        self._gather(False)
        self._swap_average()
        self.throughput.restart()  # time spent here is not training

    def _skipped(self, stage: str) -> dict[str, float]:
        """How many samples could not be read, where there were any.

        Raises:
            UserError: too many.
        """
        count, seen = (int(value) for value in self._sum_over_ranks(self._left_out_of).tolist())
        check_skipped(count, seen, self.data.max_bad_share)
        return {f"{stage}/skipped_samples": float(count)} if count else {}

    def test_by_acting(self) -> None:
        """The test of data whose only test is its world."""
        self.learner.eval()
        with self.averaged():
            self._gather(True)
            metrics: dict[str, float] = {}
            with self.cut_short():
                metrics = self._act("test")
            self.stop_if_requested()
            self._publish(metrics)
            self._gather(False)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_test_end(self.trainer, self)

    def _act(self, stage: str) -> dict[str, float]:
        """Metrics of acting, if there is a world, on one rank."""
        if not self.trainer.is_global_zero:
            return {}
        num_filmed = self.num_filmed if stage == "test" else 0
        metrics: dict[str, float] = {}
        for part, source in self.data.source.parts.items():
            with self.trainer.precision_plugin.forward_context():
                self.played[part] = play(self.learner, source, stage, num_filmed=num_filmed)
            metrics |= acting_metrics(source, under(stage, part), self.played[part])
        return metrics

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """Within, a request to stop ends what this rank does by itself, at the next item of a loop. The ranks then stop
        together where they next agree."""
        with suppress(Interrupted), obeyed(Obey.AT_CHECKS):
            yield

    def stop_if_requested(self) -> None:
        """Stops all ranks together if any of them was requested to; all have to call this.

        Raises:
            Interrupted: one was.
        """
        self.agree()
        self.stop_if_agreed()

    def stop_if_agreed(self) -> None:
        """Raises `Interrupted` if any rank was requested to stop when they last agreed."""
        for number in SIGNALS:
            if Alarm(number) in self.alarms:
                raise Interrupted(number)

    def agree(self, values: Tensor | None = None) -> list[float]:
        """`values` summed over ranks, together with the alarms that any of them has raised; all ranks have to call
        this."""
        if number := requested():
            self.raised.add(Alarm(number))
        values = torch.zeros(0, device=self.device) if values is None else values
        raised = values.new_tensor([alarm in self.raised for alarm in Alarm], dtype=torch.double)
        summed = self._sum_over_ranks(torch.cat([values.double(), raised])).tolist()
        self.alarms = {alarm for alarm, count in zip(Alarm, summed[len(values) :], strict=True) if count}
        return summed[: len(values)]

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

    def _summed(self, totals: Totals) -> Totals:
        return {name: (self._sum_over_ranks(vector).cpu(), stats) for name, (vector, stats) in totals.items()}

    def _publish(self, metrics: dict[str, float]) -> None:
        if not metrics:
            return
        self.metrics |= metrics
        if self.trainer.is_global_zero:
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, self.global_step)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum") if self.trainer.world_size > 1 else values
