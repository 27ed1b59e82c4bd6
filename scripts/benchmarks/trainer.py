"""A step through the Trainer, with its loading, logging and progress, and the same step by itself.

Blocks of steps take turns, as a Trainer cannot stop after each; a ratio is that of the medians of neighbouring blocks.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Callback

from benchmarks.gpt import SMALL, TINY, RandomText, Shape, adamw, batch_of, gpt, our_step, random_ids
from benchmarks.measuring import Effort, Row, ratio, seconds
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.data.loaders import DataModule
from mmtx.learner import Learner
from mmtx.process.cores import cores
from mmtx.run.metrics_log import MetricsLog
from mmtx.training.lightning_module import MultimodalModule
from mmtx.training.progress import Progress

WARM_UP = 3


def measured(effort: Effort) -> Iterator[Row]:
    shape, steps = (TINY, 5) if effort.quick else (SMALL, 15)
    learner = gpt(shape).train()
    optimizer, batch = adamw(learner), batch_of(random_ids(shape))

    def bare() -> None:
        our_step(learner, optimizer, batch)

    ratios = []
    for _ in range(effort.pairs(9)):
        alone = bare_seconds(bare, steps)
        through = trainer_seconds(learner, shape, steps, "trainer.accelerator=cpu")
        ratios.append(statistics.median(through) / statistics.median(alone))
    yield ratio("a step through the Trainer", "the step by itself", ratios)


def bare_seconds(step: Callable[[], None], steps: int) -> list[float]:
    """Seconds of each step after the first few."""
    return [seconds(step) for _ in range(steps)][WARM_UP:]


class Stamps(Callback):
    """When each step ended; `wait` is called first, where a device may still be at work."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.stamps: list[float] = []
        self._wait = wait

    def on_train_batch_end(self, *_: Any) -> None:
        self._wait()
        self.stamps.append(time.perf_counter())


def trainer_seconds(
    learner: Learner,
    shape: Shape,
    steps: int,
    *words: str,
    wait: Callable[[], object] = lambda: None,
    num_workers: int | Literal["auto"] = 0,
) -> list[float]:
    """Seconds of each step but the first few and the last, in which the loader ends."""
    config = compose(["optim.lr=1e-4", *words])
    optimisation, training = construct(config["optim"]), construct(config["trainer"])
    data = DataModule(
        source=RandomText(shape),
        names=["text"],
        seed=0,
        batch_size=shape.rows,
        eval_batch_size=None,
        num_workers=num_workers,
        packing=False,
        on_bad_sample="raise",
        max_bad_share=0,
        cores=cores(),
    )
    module = MultimodalModule(
        learner=learner,
        optimisation=optimisation,
        data=data,
        total_steps=steps,
        accumulate=1,
        samples_per_step=shape.rows,
        log_every_steps=10,
        seed=0,
        max_skips=training.max_skips,
        data_timeout_s=training.data_timeout_s,
    )
    stamps = Stamps(wait)
    with tempfile.TemporaryDirectory() as folder:
        trainer = training.trainer(
            total_steps=steps, epoch_steps=steps + 1, run_dir=Path(folder),
            loggers=[MetricsLog(Path(folder) / "metrics.jsonl")], callbacks=[Progress(), stamps],
        )  # fmt: skip
        trainer.fit(module)
    ends = stamps.stamps[WARM_UP - 1 :]
    return [end - begin for begin, end in zip(ends, ends[1:-1], strict=False)]
