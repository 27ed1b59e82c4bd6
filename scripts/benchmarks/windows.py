"""A causal text under a window as it grows from 1,024 to 32,768 tokens: a training step, an evaluation, their memory.

Each length is timed against half of it, in seconds of the CPU: 2 is linear, 4 is quadratic. A step is compared with
that of the dense rule first.
"""

import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import torch

from benchmarks.gpt import Shape, adamw, batch_of, gpt, our_step, random_ids
from benchmarks.measuring import Effort, Row, compare, peak_mib, ratio
from mmtx.attention.rule import Connectivity
from mmtx.learner import Learner

SHORTEST, LONGEST, WINDOW = 1024, 32768, 256


def measured(effort: Effort) -> Iterator[Row]:
    shortest, longest, window = (64, 128, 16) if effort.quick else (SHORTEST, LONGEST, WINDOW)
    learner = windowed(longest, window)
    check_equal(learner, 2 * shortest)
    length = 2 * shortest
    while length <= longest:
        for what, steps in (("training", training), ("evaluation", evaluating)):
            long, short = steps(learner, length), steps(learner, length // 2)
            ratios = compare(long, short, effort.pairs(5), clock=time.process_time, warm_up=1)
            yield ratio(f"{what} of {length} tokens, a window of {window}", f"{length // 2} tokens", ratios)
        length *= 2
    peaks = [peak_mib(effort, a_few_steps, length, window) for length in (longest, longest // 2)]
    yield Row(f"peak memory of {longest} tokens", f"{longest // 2} tokens", "{:.0f} MiB, {:.0f} MiB".format(*peaks))


def shape_of(length: int) -> Shape:
    return Shape(layers=4, width=128, heads=4, context=length, rows=1, vocabulary=65)


def windowed(longest: int, window: int) -> Learner:
    words = ["backbone/positions=rotary", "backbone.layers=L", f"backbone.window={window}"]
    return gpt(shape_of(longest), *words).train()


def check_equal(learner: Learner, length: int) -> None:
    """The step is that of the dense rule."""
    results, batch = [], batch_of(random_ids(shape_of(length)))
    for dense in (False, True):
        learner.zero_grad()
        if dense:
            with patch.object(Connectivity, "_blocked", lambda *_: None):
                score = learner(batch)["next_token"]
        else:
            score = learner(batch)["next_token"]
        (score.loss_sum / score.count).backward()
        results.append((score.mean_loss(), torch.cat([p.grad.flatten() for p in learner.parameters()])))
    learner.zero_grad()
    (loss, grads), (dense_loss, dense_grads) = results
    difference = float((grads - dense_grads).abs().max() / dense_grads.abs().max())
    equal = abs(loss - dense_loss) < 1e-5 * dense_loss and difference < 1e-4
    assert equal, f"no ratio without equal results: losses {loss} and {dense_loss}, gradients differ by {difference}"


def training(learner: Learner, length: int) -> Callable[[], None]:
    optimizer, batch = adamw(learner), batch_of(random_ids(shape_of(length)))
    return lambda: our_step(learner, optimizer, batch)


def evaluating(learner: Learner, length: int) -> Callable[[], None]:
    batch = batch_of(random_ids(shape_of(length)))

    def step() -> None:
        with torch.no_grad():
            learner.eval()(batch)
        learner.train()

    return step


def a_few_steps(length: int, window: int) -> Callable[[], None]:
    step = training(windowed(length, window), length)

    def run() -> None:
        step(), step()

    return run
