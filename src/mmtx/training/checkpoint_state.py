"""The state of training that a checkpoint holds: all that a run is at the end of a step, as plain values, and back."""

from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mmtx.training.lightning_module import MultimodalModule
from mmtx.training.loop_place import place_loop
from mmtx.training.precision import loss_scaler


def capture(module: MultimodalModule) -> dict[str, Any]:
    """Weights, optimiser, schedule, loss scaler, average, and what callbacks keep. Parameters go by their names, and
    shards are put together, so that any number of devices can read it; all ranks take part then, and rank 0 gets it.

    The generators of a step are seeded from (seed, step, rank), so their state is the step.
    """
    optimizer, precision, keep = module.optimizer, module.trainer.precision_plugin, module.global_rank == 0
    callbacks: list[Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    names = _names(module)
    return {
        "state_dict": {f"learner.{name}": _whole(value, keep) for name, value in module.learner.state_dict().items()},
        "optimizer": {
            "groups": [{key: v for key, v in group.items() if key != "params"} for group in optimizer.param_groups],
            "state": {
                names[id(parameter)]: {key: _whole(value, keep) for key, value in state.items()}
                for parameter, state in optimizer.state.items()
            },
        },
        "scheduler": module.scheduler.state_dict(),
        "scaler": precision.state_dict() if loss_scaler(precision) is not None else {},
        "callbacks": {callback.state_key: callback.state_dict() for callback in callbacks},
        "module": module.progress(),
        **({"average": module.average.state_dict(module.learner)} if module.average is not None else {}),
    }


@torch.no_grad()
def restore(module: MultimodalModule, checkpoint: dict[str, Any]) -> None:
    """Undoes `capture`, on a module that is set up for training; its loop goes on behind the checkpoint's step."""
    own = module.learner.state_dict()
    for name, value in own.items():
        value.copy_(_like(value, checkpoint["state_dict"][f"learner.{name}"]))
    _restore_optimizer(module, checkpoint["optimizer"])
    module.scheduler.load_state_dict(checkpoint["scheduler"])
    if checkpoint["scaler"]:
        module.trainer.precision_plugin.load_state_dict(checkpoint["scaler"])
    if module.average is not None:
        module.average.load_state_dict(checkpoint["average"])
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        callback.load_state_dict(checkpoint["callbacks"].get(callback.state_key, {}))
    module.set_progress(checkpoint["module"])
    place_loop(module.trainer, checkpoint["mmtx"]["step"])


def _names(module: MultimodalModule) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.learner.named_parameters()}


def _restore_optimizer(module: MultimodalModule, saved: dict[str, Any]) -> None:
    """The optimiser numbers its parameters; the checkpoint names them."""
    names, numbers, state = _names(module), iter(range(len(_names(module)))), {}
    groups = []
    for group, kept in zip(module.optimizer.param_groups, saved["groups"], strict=True):
        here = {next(numbers): parameter for parameter in group["params"]}
        groups.append({**kept, "params": list(here)})
        for number, parameter in here.items():
            of_parameter = saved["state"].get(names[id(parameter)], {})
            state[number] = {
                key: _like(parameter, value) if getattr(value, "shape", None) == parameter.shape else deepcopy(value)
                for key, value in of_parameter.items()
            }
    module.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _whole(value: Any, keep: bool) -> Any:
    """A tensor without its shards; nothing where it is not kept."""
    if isinstance(value, DTensor):
        gathered = value.full_tensor()
        return gathered.cpu() if keep else None
    return value


def _like(own: Tensor | nn.Parameter, value: Tensor) -> Tensor:
    """A whole tensor on the device of another, cut into the same shards."""
    if isinstance(own, DTensor):
        moved = value.to(own.device, own.dtype)
        return distribute_tensor(moved, own.device_mesh, own.placements, src_data_rank=None)
    return value.to(own.device).clone()
