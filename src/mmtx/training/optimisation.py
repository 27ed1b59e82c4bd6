"""The optimiser, its parameter groups, and the settings of schedule, clipping and average."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.training.schedules import Schedule, warmed_up


class Optimisation:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), fused where the device has it.

    Weight decay holds for the matrices that multiply: weights of linear maps and convolutions. Biases,
    normalisations, embeddings and single vectors are not decayed.

    Args:
        lr: base learning rate.
        weight_decay: decoupled, see above.
        betas: of the moving averages.
        eps: added to the root of the second.
        warmup_steps: optimiser steps over which the rate rises linearly from 0.
        warmup_epochs: the same in epochs; added to `warmup_steps`.
        schedule: what comes after.
        clip_norm: the global gradient norm is clipped to this; None: not clipped.
        ema_decay: keep an exponential moving average of the weights, used in evaluation and saved; None: no.
    """

    def __init__(
        self,
        *,
        lr: float,
        weight_decay: float,
        betas: Sequence[float],
        eps: float,
        warmup_steps: int,
        warmup_epochs: float,
        schedule: Schedule,
        clip_norm: float | None,
        ema_decay: float | None,
    ) -> None:
        for key, value in (("lr", lr), ("eps", eps)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidValue(key, value, "must be a positive number")
        if clip_norm == 0:
            raise InvalidValue("clip_norm", clip_norm, "would leave no gradient; null does not clip", "null")
        rest = {"weight_decay": weight_decay, "warmup_steps": warmup_steps, "warmup_epochs": warmup_epochs}
        for key, value in {**rest, "clip_norm": clip_norm or 0.0}.items():
            if not (math.isfinite(value) and value >= 0):
                raise InvalidValue(key, value, "must be at least 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InvalidValue("betas", list(betas), "must be two numbers in [0, 1)")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise InvalidValue("ema_decay", ema_decay, "must lie between 0 and 1")
        self.lr, self.weight_decay, self.betas, self.eps = lr, weight_decay, (betas[0], betas[1]), eps
        self.warmup_steps, self.warmup_epochs, self.schedule = warmup_steps, warmup_epochs, schedule
        self.clip_norm, self.ema_decay = clip_norm, ema_decay

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        decayed, rest = decay_groups(module)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self.lr, betas=self.betas, eps=self.eps, fused=True
        )

    def factor(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """What multiplies `lr` at an optimiser step, counted from 0."""
        warmup = self.warmup_steps + self.warmup_epochs * steps_per_epoch
        return warmed_up(self.schedule, step, warmup, total_steps)


def decay_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that are decayed, and those that are not, each once and in order."""
    decayed: dict[int, nn.Parameter] = {}
    rest: dict[int, nn.Parameter] = {}
    for child in module.modules():
        multiplies = isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d)
        for name, parameter in child.named_parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if multiplies and name == "weight" else rest)[id(parameter)] = parameter
    return list(decayed.values()), [p for key, p in rest.items() if key not in decayed]
