"""Packed against padded steps of the 124M GPT on 32 texts of up to 1,024 ids, 0.45 of whose padded set is real."""

from collections.abc import Callable, Iterator
from itertools import cycle

import torch

from benchmarks.gpt import TINY, Shape, gpt, random_ids
from benchmarks.gpu.device import Device, Line
from benchmarks.gpu.training import SHAPES, plain_step
from benchmarks.packing import log_normal_lengths
from mmtx.batch import Batch
from mmtx.learner import Learner

BATCHES = 8


def measured(device: Device) -> Iterator[Line]:
    shape = TINY if device.tiny else SHAPES["124M"]
    learner, batches = gpt(shape).train(), [ragged_texts(shape, seed) for seed in range(BATCHES)]
    real, places = sum(learner.model.count_tokens(batch).sum(0) for batch in batches)
    learner.to(device.name)
    runs = {
        "packed": steps(device, learner, [batch.packed().to(device.name) for batch in batches]),
        "padded": steps(device, learner, [batch.to(device.name) for batch in batches]),
    }
    timed = device.time(runs, count=len(batches), turns=3)
    for name, each in timed.items():
        what, useful = f"124M: a step, {name}, fill {real / places:.2f}", float(real) / len(batches) / each.seconds
        value = f"{1000 * each.seconds:.1f} ms, {useful / 1000:.0f}k real tokens/s"
        yield Line(what, value, "padded", each.seconds / timed["padded"].seconds, None, each.gib)


def ragged_texts(shape: Shape, seed: int) -> Batch:
    lengths = log_normal_lengths(shape.rows, shape.context, torch.Generator().manual_seed(seed)) + 1
    return Batch({"text": {"ids": random_ids(shape, seed)}}, {"text": lengths}, {"text": False})


def steps(device: Device, learner: Learner, batches: list[Batch]) -> Callable[[], None]:
    """A step with one batch after the other."""
    turns = cycle(batches)

    def loss():
        score = learner(next(turns))["next_token"]
        return score.loss_sum / score.count

    return plain_step(device, learner, loss)
