"""The callbacks of a run: ours, a user's, and Lightning's own, as they are or refused with the reason."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mmtx.errors import InvalidValue, UserError
from mmtx.metric_directions import Directions, direction_of

OWN_OPTIMISATION = "belongs to Lightning's automatic optimisation, and a step here is ours (docs/design.md)"

REFUSED: dict[type, str] = {
    callbacks.StochasticWeightAveraging: f"{OWN_OPTIMISATION}; optim.ema_decay=0.999 averages the weights",
    callbacks.WeightAveraging: "swaps weights that checkpoints do not know of; optim.ema_decay=0.999 averages them",
    callbacks.GradientAccumulationScheduler: f"{OWN_OPTIMISATION}; set trainer.accumulate_grad_batches",
    callbacks.BaseFinetuning: f"{OWN_OPTIMISATION}; freeze=[model.backbone.*] keeps weights as they are",
    callbacks.ModelPruning: "renames the weights that checkpoints hold",
    callbacks.Checkpoint: "writes what no run can resume from; the group checkpoint does (checkpoint.every_steps=500)",
    callbacks.BatchSizeFinder: "is the command mmtx tune batch_size",
    callbacks.LearningRateFinder: "is the command mmtx tune lr",
    callbacks.ProgressBar: "would write over the run's own line; callbacks=[progress] shows it",
    callbacks.BasePredictionWriter: "waits for Trainer.predict, which no run calls",
}
"""What no run can do with a callback of Lightning's, and what there is in its place."""


def constructed(make: Callable[[], Any]) -> Any:
    """What `make` makes. Raises UserError where a class of Lightning's refuses its arguments, or lacks a package."""
    try:
        return make()
    except (MisconfigurationException, ModuleNotFoundError) as error:
        raise UserError(" ".join(str(error).split())) from None


def suited(callback: Any, directions: Directions | None) -> Any:
    """A callback that can do its work in a run, and knows which way the metrics are better if it has to.

    Args:
        callback: any object of the group.
        directions: of all metrics that the run may log; None: they cannot be known yet.

    Raises:
        InvalidValue: it cannot, by its class or by its ``monitor``.
    """
    kind = type(callback).__name__
    if not isinstance(callback, Callback):
        raise InvalidValue("_target_", kind, "is no callback of Lightning's")
    for refused, reason in REFUSED.items():
        if isinstance(callback, refused):
            raise InvalidValue("_target_", kind, reason)
    if (
        isinstance(callback, callbacks.DeviceStatsMonitor)
        and find_spec("psutil") is None
        and not torch.cuda.is_available()
    ):
        raise InvalidValue("_target_", kind, "needs psutil where a CPU computes: pip install psutil")
    if directions is not None and isinstance(callback, callbacks.EarlyStopping):
        logged = {metric: way for metric, way in directions.items() if not metric.startswith("test/")}
        direction_of(callback.monitor, callback.mode, logged, keys=("monitor", "mode"))
    return callback.choosing(directions) if directions is not None and hasattr(callback, "choosing") else callback
