"""The largest batch that fits into the memory of a GPU."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from mmtx.batch import fake_batch
from mmtx.config.schema import Config
from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.experiment import Experiment, assemble
from mmtx.run.fitted_source import fitted_state_for
from mmtx.run.tuning.short_training import shortened, train_shortly

NUM_STEPS = 2
"""From the second on, the optimiser has its state."""


def tune_batch_size(config: Config, *, highest: int = 8192) -> str:
    """the most samples of a micro-batch that fit into the memory of the GPU, all as long as the data may have them

    Args:
        config: of a run.
        highest: the most that are tried

    Returns:
        The override that sets it.

    Raises:
        UserError: the config is wrong or trains on a CPU, or not even one sample fits.
    """
    check_at_least("highest", highest, 1)
    short = shortened(config, NUM_STEPS, {})
    experiment = assemble(short, fitted_state_for(short))
    if experiment.training.device_type == "cpu":
        problem = (
            "is a CPU here, which has no memory of its own that a batch could fill: mmtx tune batch_size needs a GPU"
        )
        raise InvalidValue("trainer.accelerator", config["trainer"]["accelerator"], problem)
    found = largest(partial(fits, partial(_train, experiment)), highest)
    if found == 0:
        raise UserError("not even one sample fits; make the model smaller, or set trainer.precision=bf16-mixed")
    return f"loader.batch_size={found}"


def largest(is_possible: Callable[[int], bool], highest: int) -> int:
    """The largest size up to `highest` that is possible, or 0; whatever is smaller than a possible one is so too.

    Doubles, and then halves what lies between.
    """
    good, bad = 0, highest + 1
    while good + 1 < bad:
        size = min(2 * good or 1, highest) if bad > highest else (good + bad) // 2
        if is_possible(size):
            good = size
        else:
            bad = size
    return good


def fits(train: Callable[[int], Any], size: int) -> bool:
    """Whether training at a size stays within the memory. Prints it."""
    try:
        train(size)
        is_within = True
    except torch.OutOfMemoryError:
        is_within = False
    if not is_within:
        gc.collect()  # the frames of the error held tensors
        torch.cuda.empty_cache()
    print(f"loader.batch_size={size}: {'fits' if is_within else 'out of memory'}", flush=True)
    return is_within


def _train(experiment: Experiment, size: int) -> None:
    experiment.learner.zero_grad(set_to_none=True)  # of an attempt before
    learner = experiment.learner
    batch = fake_batch({**learner.specs, **learner.model.read_specs}, size, ragged=False)
    steps: Any = [[batch] * experiment.training.accumulate_grad_batches] * NUM_STEPS  # a list is a data set to torch
    train_shortly(experiment, batches=DataLoader(steps, batch_size=None, collate_fn=_as_is))


def _as_is(step: Any) -> Any:
    return step
