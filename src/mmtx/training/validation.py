"""The half of the LightningModule that validates and tests, with the average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.data.seeding import seed_step
from mmtx.decoding.rollouts import Episode
from mmtx.evaluate import Evaluation, act
from mmtx.learner import Learner
from mmtx.training.interruptible_loader import InterruptibleLoader
from mmtx.training.published_row import publish
from mmtx.training.rank_agreement import AgreeingModule
from mmtx.training.sharding import unshard
from mmtx.training.throughput import Throughput
from mmtx.training.weight_average import Average


class ValidatedModule(AgreeingModule):
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
        num_filmed: episodes of the test that keep their frames; set by what shows them.
        played: the episodes of the last evaluation by part of the data, for each target return.
    """

    def __init__(self, *, learner: Learner, data: DataModule, seed: int) -> None:
        super().__init__()
        self.learner, self.data, self.seed = learner, data, seed
        self.metrics: dict[str, float] = {}
        self.average: Average | None = None
        self.validated: int | None = None
        self.num_filmed = 0
        self.played: dict[str, list[list[Episode]]] = {}
        self.throughput = Throughput(learner.model)
        self._parts: list[str] = []
        self._evaluation: Evaluation

    def val_dataloader(self) -> Any:
        return self._eval_loaders("val")

    def test_dataloader(self) -> Any:
        return self._eval_loaders("test")

    def _eval_loaders(self, split: str) -> Any:
        loaders = self.data.eval_loaders(split, rank=self.global_rank, num_ranks=self.trainer.world_size)
        self._parts = list(loaders)
        what = {"val": "validating, batch", "test": "testing, batch"}[split]
        return [InterruptibleLoader(loader, what, at_the_end=[]) for loader in loaders.values()]

    def on_validation_epoch_start(self) -> None:
        self._begin("val")

    def on_test_epoch_start(self) -> None:
        self._begin("test")

    def _begin(self, stage: str) -> None:
        self._evaluation = Evaluation(self.learner, stage, self.gather)
        seed_step(self.seed, self.global_step, self.global_rank)
        self._swap_average()
        unshard(self.trainer, self.learner, True)

    def validation_step(self, batches: list[Batch], _: int, dataloader_idx: int = 0) -> None:
        if batches:
            with self.cut_short():
                self._evaluation.add(self._parts[dataloader_idx], batches)

    def test_step(self, batches: list[Batch], _: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batches, _, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self._end("val", self._evaluation.metrics(self.data.max_bad_share))
        self.validated = self.global_step

    def on_test_epoch_end(self) -> None:
        self._end("test", self._evaluation.metrics(self.data.max_bad_share))

    def test_by_acting(self) -> None:
        """The test of data whose only test is its environment."""
        self.learner.eval()
        self._swap_average()
        unshard(self.trainer, self.learner, True)
        self._end("test", {})
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_test_end(self.trainer, self)

    def _end(self, stage: str, metrics: dict[str, float]) -> None:
        with self.cut_short():
            metrics |= self._act(stage)
        self.stop_if_requested()
        self._publish(self.trainer.strategy.broadcast(metrics))
        unshard(self.trainer, self.learner, False)
        self._swap_average()
        self.throughput.restart()  # time spent here is not training

    def _act(self, stage: str) -> dict[str, float]:
        """Metrics of acting, on one rank."""
        if not self.trainer.is_global_zero:
            return {}
        with self.trainer.precision_plugin.forward_context():
            num_filmed = self.num_filmed if stage == "test" else 0
            metrics, self.played = act(self.learner, self.data.source, stage, num_filmed)
        return metrics

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the weights are their average, if there is one."""
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    def _swap_average(self) -> None:
        if self.average is not None:
            self.average.swap(self.learner)

    def _publish(self, metrics: dict[str, float]) -> None:
        """Keeps metrics, the same on all ranks, as the newest, and logs them as one row."""
        if not metrics:
            return
        self.metrics |= metrics
        publish(self.trainer, metrics)
