"""An exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps ``average = decay · average + (1 - decay) · weights``.

    Early on, when there is little to average, the decay is ``(1 + updates) / (10 + updates)`` if that is smaller.

    Args:
        module: whose parameters are averaged.
        decay: of the average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates, self.is_swapped = decay, 0, False
        self._names = [name for name, _ in module.named_parameters()]
        self._average = [parameter.detach().clone() for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, [p.detach() for p in module.parameters()], 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchanges weights and average; a second call exchanges them back."""
        self.is_swapped = not self.is_swapped
        for parameter, average in zip(module.parameters(), self._average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **dict(zip(self._names, self._average, strict=True))}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, average in zip(self._names, self._average, strict=True):
            value = state[name]
            assert isinstance(value, Tensor)
            average.copy_(value)
