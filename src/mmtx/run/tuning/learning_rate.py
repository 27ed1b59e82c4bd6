"""A range test of the learning rate (Smith 2017, arXiv 1506.01186): it rises from step to step until the loss does."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy
from lightning.pytorch.callbacks import Callback

from mmtx.config.schema import Config
from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.experiment import assemble
from mmtx.run.fitted_source import fitted_state_for
from mmtx.run.init_parts import begin
from mmtx.run.tuning.short_training import shortened, train_shortly
from mmtx.training.nonfinite import NotFinite

DIVERGED = 4.0
"""The test ends at a loss of this many times the lowest, as fastai's does."""

LEAST_POINTS = 10
"""Fewer losses make no curve."""


class Curve(NamedTuple):
    """Losses of steps, by their learning rates."""

    rates: list[float]
    losses: list[float]


class _Recorder(Callback):
    """Keeps the loss of each step, and ends the test when it has grown."""

    def __init__(self) -> None:
        self.curve = Curve([], [])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        rates, losses = self.curve
        rates.append(pl_module.metrics["train/lr"])
        losses.append(pl_module.metrics["train/loss"])
        trainer.should_stop = losses[-1] > DIVERGED * min(losses)


def tune_learning_rate(
    config: Config, *, lowest: float = 1e-7, highest: float = 1.0, num_steps: int = 100, out: str = "tune_lr.png"
) -> str:
    """the rate rises from step to step, and the loss falls, and then grows; found is where it falls fastest

    Args:
        config: of a run.
        lowest: learning rate of the first step
        highest: learning rate of the last step, unless the loss has grown to a multiple before
        num_steps: of the test
        out: picture of the curve

    Returns:
        The override that sets it.

    Raises:
        UserError: config or range are wrong, the loss falls nowhere, or `out` cannot be written.
    """
    if not Path(out).absolute().parent.is_dir():
        raise InvalidValue("out", out, "lies in no folder that there is")
    curve = range_test(config, lowest, highest, num_steps)
    suggested = suggest(curve)
    try:
        draw(curve, suggested, Path(out))
    except (OSError, ValueError) as error:
        raise InvalidValue("out", out, f"cannot be written: {error}") from None
    print(f"the loss falls fastest at optim.lr={suggested:.2g}: {out}")
    return f"optim.lr={suggested:.2g}"


def range_test(config: Config, lowest: float, highest: float, num_steps: int) -> Curve:
    """Trains with a rate that rises exponentially from `lowest` to `highest`, without warm-up or schedule.

    Raises:
        UserError: the config or the range is wrong, or the loss was not finite before there was a curve.
    """
    if not 0 < lowest < highest < math.inf:
        raise InvalidValue("lowest", lowest, f"must be above 0 and below highest={highest}")
    check_at_least("num_steps", num_steps, LEAST_POINTS)
    schedule = {"_target_": "mmtx.training.Exponential", "first": lowest / highest}
    rising = {"lr": float(highest), "warmup_steps": 0, "warmup_epochs": 0.0, "schedule": schedule}
    short = shortened(config, num_steps, rising)
    experiment, recorder = assemble(short, fitted_state_for(short)), _Recorder()
    if config["init_from"]:
        begin(experiment.learner, config)
    try:
        train_shortly(experiment, [recorder])
    except NotFinite as error:  # where the rate was too high
        if len(recorder.curve.losses) < LEAST_POINTS:
            raise UserError(f"{error}; begin at a lower rate: lowest={lowest / 100:g}") from None
    return recorder.curve


def smooth(losses: Sequence[float], reach: int) -> numpy.ndarray:
    """Means over `reach` losses before and behind each, where there are so many; a straight line stays as it is where
    there are."""
    kernel = numpy.ones(2 * reach + 1)
    return numpy.convolve(losses, kernel, "same") / numpy.convolve(numpy.ones(len(losses)), kernel, "same")


def suggest(curve: Curve) -> float:
    """The rate at which the smoothed loss falls fastest, over the logarithm of the rate, before it is lowest.

    Raises:
        UserError: the loss falls nowhere.
    """
    smoothed = smooth(curve.losses, reach_of(curve))
    lowest = int(smoothed.argmin())
    slopes = numpy.gradient(smoothed, numpy.log(curve.rates))[: lowest + 1]
    steepest = int(slopes.argmin())
    if slopes[steepest] >= 0:
        raise UserError("the loss falls at none of these rates; try others: lowest=1e-8, or more steps: num_steps=300")
    return curve.rates[steepest]


def reach_of(curve: Curve) -> int:
    """Of the smoothing: a twentieth of the curve."""
    return max(1, len(curve.losses) // 20)


def draw(curve: Curve, suggested: float, file: Path) -> None:
    """Draws the losses, as they were and smoothed, over the rates, and the suggestion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(curve.rates, curve.losses, color="tab:blue", alpha=0.3, label="loss")
    axes.semilogx(curve.rates, smooth(curve.losses, reach_of(curve)), color="tab:blue", label="smoothed")
    axes.axvline(suggested, color="tab:orange", label=f"suggested: {suggested:.2g}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss of the step")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
