"""Averages of the weights, which are evaluated and saved in their place."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Average(ABC):
    """What stands in the place of a module's weights in evaluation, and is saved beside them.

    Args:
        module: whose parameters are averaged.
    """

    def __init__(self, module: nn.Module) -> None:
        places = {id(parameter): place for place, parameter in enumerate(module.parameters())}
        named = module.named_parameters(remove_duplicate=False)  # a shared one has several names
        self._places = {name: places[id(parameter)] for name, parameter in named}
        self._weights: list[Tensor] | None = None
        self.updates = 0

    @abstractmethod
    def values(self, module: nn.Module) -> list[Tensor]:
        """The averages of its parameters, in their order."""

    @abstractmethod
    def update(self, module: nn.Module) -> None:
        """Follows a step."""

    @property
    def is_swapped(self) -> bool:
        return self._weights is not None

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Puts the average in the place of the weights; a second call puts them back."""
        parameters = list(module.parameters())
        values = self.values(module) if self._weights is None else self._weights
        kept = [parameter.detach().clone() for parameter in parameters] if self._weights is None else None
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
        self._weights = kept

    def state_dict(self, module: nn.Module) -> dict[str, Tensor | int]:
        values = self.values(module)
        return {"updates": self.updates, **{name: values[place] for name, place in self._places.items()}}

    @abstractmethod
    def load_state_dict(self, state: dict[str, Tensor | int]) -> None: ...


class WeightAverage(Average):
    """Keeps ``average = decay · average + (1 - decay) · weights``, in float32: half precision would not move.

    Early on, when there is little to average, the decay is ``(1 + updates) / (10 + updates)`` if that is smaller.

    Args:
        module: whose parameters are averaged.
        decay: of the average.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module)
        self.decay = decay
        self._average = [parameter.detach().float().clone() for parameter in module.parameters()]

    def values(self, module: nn.Module) -> list[Tensor]:
        return self._average

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [parameter.detach().float() for parameter in module.parameters()]
        for kind in {type(weight) for weight in weights}:  # some are spread over ranks, some are not
            pairs = [pair for pair in zip(self._average, weights, strict=True) if type(pair[1]) is kind]
            averages, own = map(list, zip(*pairs, strict=True))
            torch._foreach_lerp_(averages, own, 1 - decay)

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, place in self._places.items():
            value = state[name]
            assert isinstance(value, Tensor)
            self._average[place].copy_(value)


class AveragedPoint(Average):
    """The averages that an optimiser keeps itself, in its own state.

    Args:
        module: whose parameters are averaged.
        averaged: gives the average of a parameter.
    """

    def __init__(self, module: nn.Module, averaged: Callable[[nn.Parameter], Tensor]) -> None:
        super().__init__(module)
        self._averaged = averaged

    @torch.no_grad()
    def values(self, module: nn.Module) -> list[Tensor]:
        return [self._averaged(parameter) for parameter in module.parameters()]

    def update(self, module: nn.Module) -> None:
        self.updates += 1

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
