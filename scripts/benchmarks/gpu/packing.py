"""Packed against padded steps of the prefix-LM of `benchmarks.packing`, 0.45 of whose padded set is real."""

from collections.abc import Callable, Iterator
from itertools import cycle

from benchmarks.gpt import TINY, Shape
from benchmarks.gpu.device import Device, Line
from benchmarks.gpu.training import plain_step
from benchmarks.packing import prefix_lm, ragged_batches
from mmtx.batch import Batch
from mmtx.learner import Learner

SHAPE = Shape(layers=12, width=768, heads=12, context=512, rows=32, vocabulary=65)


def measured(device: Device) -> Iterator[Line]:
    shape = TINY if device.tiny else SHAPE
    learner, batches = prefix_lm(shape).train(), ragged_batches(shape)
    real, places = sum(learner.model.count_tokens(batch).sum(0) for batch in batches)
    learner.to(device.name)
    runs = {
        "packed": steps(device, learner, [batch.packed().to(device.name) for batch in batches]),
        "padded": steps(device, learner, [batch.to(device.name) for batch in batches]),
    }
    with device.compiled():  # attention over blocks of a mask is compiled by itself
        timed = device.time(runs, count=len(batches))
    for name, each in timed.items():
        what, useful = f"a step, {name}, fill {real / places:.2f}", float(real) / len(batches) / each.seconds
        value = f"{1000 * each.seconds:.1f} ms, {useful / 1000:.0f}k real tokens/s"
        yield Line(what, value, "padded", each.seconds / timed["padded"].seconds, None, each.gib)


def steps(device: Device, learner: Learner, batches: list[Batch]) -> Callable[[], None]:
    """A step with one batch after the other."""
    turns = cycle(batches)

    def loss():
        score = learner(next(turns))["next_token"]
        return score.loss_sum / score.count

    return plain_step(device, learner, loss)
