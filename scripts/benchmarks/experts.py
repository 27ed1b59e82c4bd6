"""A training step with eight experts, of which a token takes two, against one with a dense feed-forward as wide as two
of them: of a GPT, in float32, in seconds of the CPU."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpt import SMALL, TINY, Shape, adamw, batch_of, gpt, our_step, random_ids
from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.learner import Learner


def measured(effort: Effort) -> Iterator[Row]:
    shape = TINY if effort.quick else SMALL
    check_equal(shape)
    compared = partial(compare, pairs=effort.pairs(15), clock=time.process_time)
    experts, dense = step_of(shape, "backbone/mlp=experts"), step_of(shape, "backbone/mlp=gelu")
    yield ratio("a step of 8 experts, 2 for a token", "of one MLP as wide", compared(experts, dense))
    batch = batch_of(random_ids(shape))
    forward = [evaluating(gpt(shape, f"backbone/mlp={mlp}").eval(), batch) for mlp in ("experts", "gelu")]
    yield ratio("an evaluation of the same", "of one MLP as wide", compared(*forward))


def step_of(shape: Shape, *words: str) -> Callable[[], None]:
    learner = gpt(shape, *words).train()
    optimizer, batch = adamw(learner), batch_of(random_ids(shape))
    return lambda: our_step(learner, optimizer, batch)


def evaluating(learner: Learner, batch: object) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            learner(batch)  # type: ignore[arg-type]

    return step


@torch.no_grad()
def check_equal(shape: Shape) -> None:
    """Eight copies of one MLP are that MLP."""
    experts, dense = gpt(shape, "backbone/mlp=experts").eval(), gpt(shape, "backbone.mlp.expansion=2").eval()
    copies, state = experts.state_dict(), dense.state_dict()
    for name, value in copies.items():
        if name in state:
            value.copy_(state[name].expand_as(value))
    losses = [float(each(batch_of(random_ids(shape)))["next_token"].mean_loss()) for each in (experts, dense)]
    assert abs(losses[0] - losses[1]) < 1e-5, f"no ratio without equal results: losses {losses}"
