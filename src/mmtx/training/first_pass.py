"""A first pass over a step, without gradients, where a loss depends on sums over all its micro-batches and ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.evaluate import Gather
from mmtx.learner import Learner
from mmtx.nn.layer_statistics import add_statistics
from mmtx.objectives.step_sums import StepSums


@contextmanager
def known_sums(
    learner: Learner, prepared: Sequence[Mapping[str, Batch]], *, seed: Callable[[], None], gather: Gather | None
) -> Iterator[None]:
    """Within, `Objective.sum_over_step` gives sums over the whole step. Costs a forward pass of every micro-batch, and
    on several ranks a wait for the device, where an objective uses statistics; elsewhere, and where a step is one
    micro-batch, whose own sums are those of the step, nothing.

    Args:
        learner: whose objectives may use statistics.
        prepared: the micro-batches of this rank (`Learner.prepare`), to be computed in the same order within.
        seed: seeds all generators for the step; called before both passes, so that they draw the same numbers.
        gather: over ranks; None: there is one. All ranks have to call this.
    """
    if not learner.counting or (gather is None and len(prepared) == 1):
        yield
        return
    sums = [StepSums() for _ in learner.counting]
    for objective, own in zip(learner.counting, sums, strict=True):
        objective.step_sums = own
    try:
        seed()
        with torch.no_grad():
            for batch in prepared:
                learner(batch)
        _add_over_ranks(sums, gather, next(learner.parameters()).device)
        seed()
        yield
    finally:
        for objective in learner.counting:
            objective.step_sums = None


def _add_over_ranks(sums: Sequence[StepSums], gather: Gather | None, device: torch.device) -> None:
    """Some ranks may lack sums, as none of their samples has what an objective needs."""
    if gather is None:
        for own in sums:
            own.whole = own.collected
        return
    of_ranks = gather([{name: value.cpu() for name, value in own.collected.items()} for own in sums])
    for index, own in enumerate(sums):
        whole: dict[str, Tensor] = {}
        for of_rank in of_ranks:
            add_statistics(whole, of_rank[index])
        own.whole = {name: value.to(device) for name, value in whole.items()}
