"""Where a loaded model computes, and what numbers it computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmtx.config.options import options_of
from mmtx.learner import Learner
from mmtx.training.devices import Accelerator, chosen_device
from mmtx.training.precision import PrecisionName, precision_plugin


@contextmanager
def computing(
    learner: Learner, *, device: Accelerator = "auto", precision: PrecisionName | None = None
) -> Iterator[None]:
    """Within, a loaded model computes on a device in a precision.

    Args:
        learner: is moved there, and stays; ``bf16-true`` rounds its weights.
        device: auto is the GPU if there is one, else the CPU
        precision: as trainer.precision; null is that of the run's training on a GPU, and 32-true on a CPU

    Raises:
        InvalidValue: this machine has no such device.
    """
    kind = chosen_device(device)
    plugin = precision_plugin(precision or _usual(learner, kind), kind)
    plugin.convert_module(learner.to(kind))
    with plugin.forward_context():
        yield


def _usual(learner: Learner, kind: str) -> PrecisionName:
    """Half precision is quick on the GPUs that runs train on with it, and mostly slow on a CPU."""
    config = learner.config or {}
    return config.get("trainer", {}).get("precision", "32-true") if kind != "cpu" else "32-true"


COMPUTING = options_of(computing)
"""Of the commands that compute with a loaded model."""
