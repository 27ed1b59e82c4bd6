"""The optimiser, its parameter groups, and the settings of schedule, clipping and average."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mmtx.errors import InvalidValue
from mmtx.nn.roles import GROWING, ROLES
from mmtx.training.composite import Composite
from mmtx.training.parameter_groups import Group, groups_by_role, merged, parts_of, taken_apart
from mmtx.training.schedules import Schedule, warmed_up
from mmtx.training.stages import check_stages
from mmtx.training.weight_average import Average, AveragedPoint, WeightAverage


class Optimisation:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), fused where the device has it, or others by the roles of
    parameters (`mmtx.nn.roles`).

    Weight decay holds for what multiplies: matrices, filters of convolutions, heads. Biases, gains, embeddings and
    single vectors are not decayed.

    Where the backbone has a `base_width`, what multiplies its features learns slower in a wider model
    (`mmtx.nn.width`), AdamW or `rest` alike: whose steps have the size of the rate. Those of `matrices` keep it: a step
    of Muon is orthogonal, as large to what it multiplies at every width.

    Args:
        lr: base learning rate.
        weight_decay: what a step takes off matrices, as a share of them and times the rate.
        betas: of AdamW's moving averages; None: another optimiser takes its place.
        eps: added to the root of the second; None: likewise.
        warmup_steps: optimiser steps over which the rate rises linearly from 0.
        warmup_epochs: the same in epochs; added to `warmup_steps`.
        schedule: what comes after.
        clip_norm: the global gradient norm is clipped to this; None: not clipped.
        ema_decay: keep an exponential moving average of the weights, used in evaluation and saved; None: no.
        rates: learning rates of roles, as multiples of `lr`; 1 where a role is not named.
        matrices: ``matrices(groups, lr=lr)`` makes the optimiser of matrices, each of those that are stored together
            a parameter of its own; None: they are stepped with the rest.
        rest: ``rest(groups, lr=lr)`` makes the optimiser of the rest, with a group for each role; None: AdamW.
        stages: what alone is trained at the beginning, one after the other, see `Stages`; all is trained after them.
    """

    def __init__(
        self,
        *,
        lr: float,
        weight_decay: float,
        betas: Sequence[float] | None,
        eps: float | None,
        warmup_steps: int,
        warmup_epochs: float,
        schedule: Schedule,
        clip_norm: float | None,
        ema_decay: float | None,
        rates: Mapping[str, Any],
        matrices: Callable[..., Optimizer] | None,
        rest: Callable[..., Optimizer] | None,
        stages: Sequence[Mapping[str, Any]] = (),  # absent in stored configs of earlier versions
    ) -> None:
        check_stages(stages)
        _check_positive("lr", lr)
        if clip_norm == 0:
            raise InvalidValue("clip_norm", clip_norm, "would leave no gradient; null does not clip", "null")
        others = {"weight_decay": weight_decay, "warmup_steps": warmup_steps, "warmup_epochs": warmup_epochs}
        for key, value in {**others, "clip_norm": clip_norm or 0.0}.items():
            if not (math.isfinite(value) and value >= 0):
                raise InvalidValue(key, value, "must be at least 0")
        if ema_decay is not None and not 0 < ema_decay < 1:
            raise InvalidValue("ema_decay", ema_decay, "must lie between 0 and 1")
        _check_rates(rates)
        _check_rest(rest, betas, eps, ema_decay, matrices)
        self.lr, self.weight_decay, self.betas, self.eps = lr, weight_decay, betas, eps
        self.warmup_steps, self.warmup_epochs, self.schedule = warmup_steps, warmup_epochs, schedule
        self.clip_norm, self.ema_decay = clip_norm, ema_decay
        self.stages = stages
        self.rates, self.matrices, self.rest = {role: float(rate) for role, rate in rates.items()}, matrices, rest

    def optimizer(self, module: nn.Module) -> Optimizer:
        """Raises UserError where a parameter has no role."""
        slower = GROWING if self.matrices is None else GROWING - {"matrix"}
        groups = groups_by_role(module, self.lr, self.rates, self.weight_decay, slower)
        matrices = [group for group in groups if group["role"] == "matrix"]
        if self.matrices is None or not matrices:
            return self._of_the_rest(groups)
        parts = parts_of(module)
        apart = [{**group, "params": taken_apart(group["params"], parts)} for group in matrices]
        others = [group for group in groups if group["role"] != "matrix"]
        first = [self._of_the_rest(others)] if others else []  # so that what is logged as the rate is `lr`
        return Composite([*first, self.matrices(apart, lr=self.lr)], parts)

    def _of_the_rest(self, groups: list[Group]) -> Optimizer:
        if self.rest is not None:
            return self.rest(groups, lr=self.lr)
        assert self.betas is not None and self.eps is not None
        betas = self.betas[0], self.betas[1]
        return torch.optim.AdamW(merged(groups), lr=self.lr, betas=betas, eps=self.eps, fused=True)

    def average(self, module: nn.Module, optimizer: Optimizer) -> Average | None:
        """What is evaluated and saved in the place of the weights."""
        if self.ema_decay is not None:
            return WeightAverage(module, self.ema_decay)
        return AveragedPoint(module, optimizer.averaged) if hasattr(optimizer, "averaged") else None

    def factor(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """What multiplies `lr` at an optimiser step, counted from 0."""
        warmup = self.warmup_steps + self.warmup_epochs * steps_per_epoch
        return warmed_up(self.schedule, step, warmup, total_steps)


def _check_positive(key: str, value: Any) -> None:
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise InvalidValue(key, value, "must be a positive number")


def _check_rates(rates: Mapping[str, Any]) -> None:
    for role, rate in rates.items():
        if role not in ROLES:
            raise InvalidValue("rates", dict(rates), f"names '{role}'; a role is one of {', '.join(ROLES)}")
        _check_positive(f"rates.{role}", rate)


def _check_rest(
    rest: Callable[..., Optimizer] | None,
    betas: Sequence[float] | None,
    eps: float | None,
    ema_decay: float | None,
    matrices: Callable[..., Optimizer] | None,
) -> None:
    """Raises InvalidValue where AdamW lacks a setting, or another optimiser does not go with one."""
    if rest is None:
        if betas is None or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InvalidValue("betas", betas, "must be two numbers in [0, 1)")
        _check_positive("eps", eps)
        return
    for key, value in (("betas", betas), ("eps", eps)):
        if value is not None:
            raise InvalidValue(key, value, "is AdamW's, in whose place stands optim.rest, with keys of its own", "null")
    if hasattr(getattr(rest, "func", rest), "averaged"):
        for key, other in (("ema_decay", ema_decay), ("matrices", matrices)):
            if other is not None:
                raise InvalidValue(key, other, "does not go with optim.rest, which averages the weights itself", "null")
