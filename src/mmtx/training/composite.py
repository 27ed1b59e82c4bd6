"""Several optimisers as one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmtx.training.parameter_groups import Parts


class Composite(Optimizer):
    """Several optimisers that step together: one to Lightning, to schedules, to loss scalers and to checkpoints.

    A matrix that is stored with others is stepped as a parameter of its own. Outside it is not seen: groups hold the
    whole parameter, whose state has that of the query's matrix as ``query.momentum_buffer``.

    Args:
        optimizers: of different parameters; some of them parts.
        parts: which of them are parts, and of what.
    """

    def __init__(self, optimizers: Sequence[Optimizer], parts: Parts) -> None:
        self.optimizers, self.parts = optimizers, parts
        self._place = {id(part): (whole, f"{name}.") for whole in parts for name, part in parts[whole].items()}
        super().__init__([{**group, "params": self._whole(group)} for group in self._inner_groups()], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for whole, parts in self.parts.items():
            _lend(whole, list(parts.values()))
        for group, inner in zip(self.param_groups, self._inner_groups(), strict=True):
            inner.update(_settings(group))
        for optimizer in self.optimizers:
            optimizer.step()
        for parts in self.parts.values():
            for part in parts.values():
                part.grad = None
        self._follow()
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        groups = iter(state_dict["param_groups"])
        for optimizer in self.optimizers:
            numbers, states, inner = count(), {}, []
            for group in optimizer.param_groups:
                saved = next(groups)
                number_of = dict(zip(map(id, self._whole(group)), saved["params"], strict=True))
                here = {next(numbers): parameter for parameter in group["params"]}
                for number, parameter in here.items():
                    whole, prefix = self._place.get(id(parameter), (parameter, ""))
                    state = state_dict["state"].get(number_of[id(whole)], {})
                    states[number] = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
                inner.append({**saved, "params": list(here)})
            optimizer.load_state_dict({"state": states, "param_groups": inner})
        self._follow()

    def _follow(self) -> None:
        """Settings and states as the optimisers have them now."""
        for group, inner in zip(self.param_groups, self._inner_groups(), strict=True):
            group.update(_settings(inner))
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                whole, prefix = self._place.get(id(parameter), (parameter, ""))
                self.state[whole].update({f"{prefix}{key}": value for key, value in state.items()})

    def _inner_groups(self) -> Iterator[dict[str, Any]]:
        return (group for optimizer in self.optimizers for group in optimizer.param_groups)

    def _whole(self, group: Mapping[str, Any]) -> list[nn.Parameter]:
        """The parameters of a group, without cuts."""
        return list(dict.fromkeys(self._place.get(id(p), (p, ""))[0] for p in group["params"]))


def _lend(whole: nn.Parameter, parts: Sequence[nn.Parameter]) -> None:
    """Gives parts their rows of the weight, which may have moved, and of its gradient."""
    rows = [len(part) for part in parts]
    gradient, weights = whole.grad, whole.detach().flatten(0, -2).split(rows)
    gradients: Sequence[Tensor | None] = (
        [None] * len(parts) if gradient is None else gradient.flatten(0, -2).split(rows)
    )
    for part, weight, gradient in zip(parts, weights, gradients, strict=True):
        part.data, part.grad = weight, gradient


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
