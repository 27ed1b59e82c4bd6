"""What ranks exchange in a step, and parameters spread over them by FSDP2."""

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from mmtx.learner import Learner
from mmtx.training.precision import is_mixed_bfloat16


def shard(learner: Learner, mesh: DeviceMesh, precision: Precision) -> None:
    """Shards blocks, of a reference too, then all else of the learner. Gradients are summed over ranks in float32.

    With bf16-mixed, ranks exchange the weights of blocks as bfloat16: half the bytes, and the same products, since
    autocast would round matrices too. Gains and biases are rounded as they travel; embeddings and heads stay float32,
    and the types of activations are autocast's, as on one device. Float16 would lose small gains.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    of_the_rest = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    exchanged = torch.bfloat16 if is_mixed_bfloat16(precision) else None
    of_blocks = dataclasses.replace(of_the_rest, param_dtype=exchanged)
    kept, everywhere = _kept_whole(learner), _everywhere(learner)
    for parameter in everywhere:
        parameter.data = parameter.data.to(mesh.device_type)
    put = partial(fully_shard, mesh=mesh, ignored_params=everywhere)
    for model in (learner.model, *learner.references):
        for stack in model.stacks.values():
            for block in stack.blocks:
                put(block, mp_policy=of_blocks, reshard_after_forward=block not in kept)
    put(learner, mp_policy=of_the_rest, reshard_after_forward=False)


def unshard(trainer: pl.Trainer, learner: Learner, whole: bool) -> None:
    """Keeps parameters whole on every rank, as decoding texts takes each rank its own time; or shards them again."""
    if not is_sharded(trainer):
        return
    from torch.distributed.fsdp import FSDPModule

    kept = _kept_whole(learner)
    for module in itertools.chain(*(root.modules() for root in (learner, *learner.references))):
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not whole and module not in kept, recurse=False)
            module.unshard() if whole else module.reshard()


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether parameters are spread over ranks, so that modules can only be called as a whole."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


@contextmanager
def without_sync(trainer: pl.Trainer, learner: nn.Module) -> Iterator[None]:
    """Within, gradients stay on their ranks: those of all micro-batches of a step are exchanged once, with the last."""
    model = trainer.strategy.model
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
        return
    from torch.distributed.fsdp import FSDPModule

    if isinstance(learner, FSDPModule):
        learner.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        if isinstance(learner, FSDPModule):
            learner.set_requires_gradient_sync(True)


def _everywhere(learner: Learner) -> set[nn.Parameter]:
    """Parameters that every rank has in full and changes by itself, as modules name them in `on_every_rank`."""
    modules = itertools.chain(*(root.modules() for root in (learner, *learner.references)))
    return {module.get_parameter(name) for module in modules for name in getattr(module, "on_every_rank", ())}


def _kept_whole(learner: Learner) -> list[nn.Module]:
    """Modules whose backward pass follows their forward pass at once: to shard them in between would be of no use."""
    return [learner, learner.model.backbone.blocks[-1]]
