"""The callback that measures what a trained model costs to write with, and what memory its training took."""

import statistics
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Continues
from mmtx.process.peak_memory import peak_memory
from mmtx.training.published_row import publish
from mmtx.training.sharding import is_sharded

TIMES = 3
"""After a first time, in which memory is laid out and graphs are compiled."""


class Costs(Callback):
    """Logs, when training ends, ``costs/memory_gib``: the most memory at a time, of tensors on a GPU, else of the whole
    process, Python and its libraries included; and ``costs/written/tokens_per_second``: one text written greedily from
    its first token to the length of the data's, the median of three times, where an objective continues texts. A
    model whose weights are spread over ranks has the memory alone.
    """

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        memory = peak_gib(pl_module.device)
        row = {"costs/memory_gib": memory} if memory else {}
        batch = None if is_sharded(trainer) else _first(pl_module)
        learner = pl_module.learner
        if batch is not None:
            was_training = learner.training
            learner.eval()
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                row |= written_per_second(learner, batch)
            learner.train(was_training)
        publish(trainer, row)


def written_per_second(learner: Learner, batch: Batch) -> dict[str, float]:
    """``costs/written/tokens_per_second`` of the first objective that continues texts; empty where none does.

    Args:
        learner: in eval mode.
        batch: one sample, on its device.
    """
    writers = [learner.objective(name) for name in learner.applying(batch)]
    writer = next((each for each in writers if isinstance(each, Continues)), None)
    if writer is None:
        return {}
    num_tokens, seconds = 0, []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        num_tokens = sum(map(len, writer.continued(learner.model, batch)))
        seconds.append(time.perf_counter() - began)
    return {"costs/written/tokens_per_second": num_tokens / statistics.median(seconds[1:])}


def peak_gib(device: torch.device) -> float:
    """The most memory at a time: since the last row of the log, of a GPU; else of this process since it began; 0
    where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_memory() / 2**30


def _first(module: Any) -> Batch | None:
    """The first sample of the validation, or of the test; None where there is neither."""
    for split in ("val", "test"):
        for loader in module.data.eval_loaders(split, rank=0, num_ranks=1).values():
            return next(iter(loader))[0].select(torch.tensor([0])).to(module.device)
    return None
