"""Parameters spread over ranks by FSDP2."""

import lightning.pytorch as pl
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh

from mmtx.learner import Learner


def shard(learner: Learner, mesh: DeviceMesh) -> None:
    """Shards blocks, then everything else."""
    from torch.distributed.fsdp import fully_shard

    for stack in (learner.model.backbone, learner.model.encoder):
        for block in stack.blocks if stack is not None else ():
            fully_shard(block, mesh=mesh)
    fully_shard(learner, mesh=mesh)


def unshard(trainer: pl.Trainer, learner: Learner, whole: bool) -> None:
    """Keeps parameters whole on every rank, as decoding texts takes each rank its own time; or shards them again."""
    if not is_sharded(trainer):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not whole, recurse=False)
            module.unshard() if whole else module.reshard()


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether parameters are spread over ranks, so that modules can only be called as a whole."""
    return isinstance(trainer.strategy, ModelParallelStrategy)
