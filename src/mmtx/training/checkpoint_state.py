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
from mmtx.training.stored_tensors import Reading, StoredTensor
from mmtx.training.weight_average import Average


def capture(module: MultimodalModule) -> dict[str, Any]:
    """Weights, optimiser, schedule, loss scaler, average, and what callbacks keep. Parameters go by their names; where
    they are spread over ranks, each rank has its part.

    The generators of a step are seeded from (seed, step, rank), so their state is the step.
    """
    optimizer, precision = module.optimizer, module.trainer.precision_plugin
    callbacks: list[Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    names = _names(module)
    return {
        "state_dict": {f"learner.{name}": value for name, value in module.learner.state_dict().items()},
        "optimizer": {
            "groups": [{key: v for key, v in group.items() if key != "params"} for group in optimizer.param_groups],
            "state": {names[id(parameter)]: dict(state) for parameter, state in optimizer.state.items()},
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
    _restore_weights(module, checkpoint["state_dict"])
    _restore_optimizer(module, checkpoint["optimizer"])
    module.scheduler.load_state_dict(checkpoint["scheduler"])
    if checkpoint["scaler"]:
        module.trainer.precision_plugin.load_state_dict(checkpoint["scaler"])
    if module.average is not None:
        _restore_average(module.average, module, checkpoint["average"])
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        if state := checkpoint["callbacks"].get(callback.state_key):
            callback.load_state_dict(state)
    module.set_progress(checkpoint["module"])
    place_loop(module.trainer, checkpoint["mmtx"]["step"])


def _names(module: MultimodalModule) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.learner.named_parameters()}


def _restore_weights(module: MultimodalModule, saved: dict[str, Any]) -> None:
    reading = Reading()
    for name, own in module.learner.state_dict().items():
        value = saved[f"learner.{name}"]
        if isinstance(value, StoredTensor):
            reading.into(value, own)
        else:
            own.copy_(_like(own, value, reading))
    reading.finish()


def _restore_optimizer(module: MultimodalModule, saved: dict[str, Any]) -> None:
    """The optimiser numbers its parameters; the checkpoint names them."""
    names, numbers, state = _names(module), iter(range(len(_names(module)))), {}
    groups, reading = [], Reading()
    for group, kept in zip(module.optimizer.param_groups, saved["groups"], strict=True):
        here = {next(numbers): parameter for parameter in group["params"]}
        groups.append({**kept, "params": list(here)})
        for number, parameter in here.items():
            of_parameter = saved["state"].get(names[id(parameter)], {})
            state[number] = {
                key: _like(parameter, value, reading)
                if getattr(value, "shape", None) == parameter.shape
                else deepcopy(value)
                for key, value in of_parameter.items()
            }
    reading.finish()
    module.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _restore_average(average: Average, module: MultimodalModule, saved: dict[str, Any]) -> None:
    own: dict[str, Any] = dict(average.state_dict(module.learner))
    spread, reading = {name for name, value in saved.items() if _is_spread(own[name], value)}, Reading()
    state = {name: _like(own[name], value, reading) if name in spread else value for name, value in saved.items()}
    reading.finish()
    average.load_state_dict(state)


def _is_spread(own: Any, value: Any) -> bool:
    """Over ranks, now or in the files."""
    return isinstance(own, DTensor) or isinstance(value, StoredTensor)


def _like(own: Tensor | nn.Parameter, value: Tensor | StoredTensor, reading: Reading) -> Tensor:
    """A tensor on the device of another, cut into the same shards; a stored one has its values when it is read."""
    if isinstance(value, StoredTensor):
        return reading.new(value, own)
    if isinstance(own, DTensor):
        moved = value.to(own.device, own.dtype)
        return distribute_tensor(moved, own.device_mesh, own.placements, src_data_rank=None)
    return value.to(own.device).clone()
