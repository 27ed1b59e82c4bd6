"""Packed against padded training, of texts and series of log-normal lengths: 0.45 of a padded batch is real, as in a
mixed corpus. The model (4 layers, width 256) and its weights are the same; losses and gradients are compared first.
"""

from collections.abc import Callable, Iterator

import torch

from benchmarks.gpt import TINY, Shape, adamw, learner_of, our_step, sizes
from benchmarks.measuring import Effort, Row, compare, peak_mib, ratio
from mmtx.batch import Batch, Field, Spec
from mmtx.learner import Learner

SHAPE = Shape(layers=4, width=256, heads=4, context=256, rows=16, vocabulary=65)
FILL, BATCHES, CHANNELS = 0.45, 8, 32


def measured(effort: Effort) -> Iterator[Row]:
    shape = TINY if effort.quick else SHAPE
    learner, batches = prefix_lm(shape).train(), ragged_batches(shape)
    check_equal(learner, batches[0])
    real, places = sum(learner.model.count_tokens(batch).sum(0) for batch in batches)
    what = f"a packed step, {real / places:.2f} of the padded set is real"
    packed, padded = (steps(learner, batches, packed) for packed in (True, False))
    yield ratio(what, "the same, padded", compare(packed, padded, effort.pairs(31)))
    peaks = [peak_mib(effort, a_few_steps, shape, packed) for packed in (True, False)]
    yield Row("peak memory of packed steps", "the same, padded", "{:.0f} MiB, {:.0f} MiB".format(*peaks))


def prefix_lm(shape: Shape, *words: str) -> Learner:
    """A text that is written after a series of vectors, which it attends to: a prefix-LM of two ragged names."""
    times = Field((None,), torch.long, shape.context, shape.context, rising=True)
    values = Field((None, CHANNELS), torch.float32, max_length=shape.context)
    ids = Field((None,), torch.long, num_classes=shape.vocabulary, max_length=shape.context + 1)
    specs = {"state": Spec({"values": values, "times": times}), "text": Spec({"ids": ids})}
    return learner_of(specs, ["modality=[state,text]", "objective=[next_token]", *sizes(shape), *words])


def ragged_batches(shape: Shape) -> list[Batch]:
    return [ragged(shape, seed) for seed in range(BATCHES)]


def ragged(shape: Shape, seed: int) -> Batch:
    """A batch of which about `FILL` is real: log-normal lengths, the longest as long as may be."""
    generator, rows, longest = torch.Generator().manual_seed(seed), shape.rows, shape.context

    text, state = (log_normal_lengths(rows, longest, generator) for _ in range(2))
    text = text + 1
    ids = torch.randint(0, shape.vocabulary, (rows, longest + 1), generator=generator)
    values = torch.randn(rows, longest, CHANNELS, generator=generator)
    times = torch.arange(longest).expand(rows, -1)
    fields = {"state": {"values": values, "times": times}, "text": {"ids": ids}}
    return Batch(fields, {"state": state, "text": text}, {"state": False, "text": False})


def log_normal_lengths(rows: int, longest: int, generator: torch.Generator) -> torch.Tensor:
    """Of which one is the longest, and `FILL` of the padded rows is real."""
    drawn = (torch.randn(rows, generator=generator) * 0.5).exp()
    spread = drawn * max(FILL - 1 / rows, 0) / (1 - 1 / rows) * longest / drawn.mean()
    whole = spread.round().long().clamp(2, longest)
    whole[int(torch.randint(rows, (), generator=generator))] = longest
    return whole


def check_equal(learner: Learner, batch: Batch) -> None:
    results = []
    for given in (batch, batch.packed()):
        learner.zero_grad()
        score = learner(given)["next_token"]
        (score.loss_sum / score.count).backward()
        grads = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        results.append((score.mean_loss(), grads))
    learner.zero_grad()
    (padded, padded_grads), (packed, packed_grads) = results
    difference = float((padded_grads - packed_grads).abs().max())
    equal = abs(padded - packed) < 1e-5 * padded and difference < 1e-5
    assert equal, f"no ratio without equal results: losses {padded} and {packed}, gradients differ by {difference:.1e}"


def steps(learner: Learner, batches: list[Batch], packed: bool) -> Callable[[], None]:
    """A step with one batch after the other; packing is part of it."""
    optimizer, turn = adamw(learner), iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        our_step(learner, optimizer, batch.packed() if packed else batch)

    return step


def a_few_steps(shape: Shape, packed: bool) -> Callable[[], None]:
    step = steps(prefix_lm(shape).train(), ragged_batches(shape)[:3], packed)

    def run() -> None:
        step(), step(), step()

    return run
