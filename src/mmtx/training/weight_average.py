"""An exponential moving average of the weights."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps ``average = decay · average + (1 - decay) · weights``, in float32: half precision would not move.

    Early on, when there is little to average, the decay is ``(1 + updates) / (10 + updates)`` if that is smaller.

    Args:
        module: whose parameters are averaged.
        decay: of the average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._average = [parameter.detach().float().clone() for parameter in module.parameters()]
        places = {id(parameter): place for place, parameter in enumerate(module.parameters())}
        named = module.named_parameters(remove_duplicate=False)  # a shared one has several names
        self._places = {name: places[id(parameter)] for name, parameter in named}
        self._weights: list[Tensor] | None = None

    @property
    def is_swapped(self) -> bool:
        return self._weights is not None

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, [p.detach().float() for p in module.parameters()], 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Puts the average in the place of the weights; a second call puts them back."""
        parameters = list(module.parameters())
        kept = [parameter.detach().clone() for parameter in parameters] if self._weights is None else None
        for parameter, value in zip(parameters, self._weights or self._average, strict=True):
            parameter.copy_(value)
        self._weights = kept

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **{name: self._average[place] for name, place in self._places.items()}}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, place in self._places.items():
            value = state[name]
            assert isinstance(value, Tensor)
            self._average[place].copy_(value)
