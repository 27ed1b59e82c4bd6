"""Steps of an optimiser that a number which is none leaves out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float32
from torch import Tensor
from torch.optim import Optimizer


def is_guarded(optimizer: Optimizer) -> bool:
    """Whether its steps can be left out on the device, as those of torch's fused optimisers can. For all others the
    host has to know first."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)  # as a loss scaler finds out


@contextmanager
def guarded(optimizer: Any, left_out: Float32[Tensor, ""]) -> Iterator[None]:
    """Within, a step changes neither parameters nor state where `left_out` is 1, on their device, and is as ever where
    it is 0."""
    optimizer.grad_scale, optimizer.found_inf = None, left_out
    try:
        yield
    finally:
        del optimizer.grad_scale, optimizer.found_inf
