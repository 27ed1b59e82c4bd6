"""Low-rank updates (LoRA) of linear maps whose own weights are frozen (Hu et al. 2021, arXiv 2106.09685)."""

from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.linear_by_group import LinearByGroup

LINEAR = (nn.Linear, LinearByGroup)


class LoRA:
    """Adds low-rank updates to linear maps: ``W + alpha / rank · up · down``.

    Args:
        rank: of the update.
        alpha: its scale, over the rank.
        targets: patterns of the maps' names, such as ``*attention.qkv``.
    """

    def __init__(self, *, rank: int, alpha: float, targets: list[str]) -> None:
        check_at_least("rank", rank, 1)
        self.rank, self.alpha, self.targets = rank, alpha, targets

    def add(self, module: nn.Module) -> None:
        """Adds updates in place; they begin at zero.

        Raises:
            InvalidValue: a pattern matches no linear map.
        """
        linears = {name: child for name, child in module.named_modules() if isinstance(child, LINEAR)}
        for pattern in self.targets:
            if not any(fnmatchcase(name, pattern) for name in linears):
                raise InvalidValue("targets", pattern, "matches no linear map")
        for name, linear in linears.items():
            if any(fnmatchcase(name, pattern) for pattern in self.targets):
                update = LowRank(linear.weight.shape, self.rank, self.alpha / self.rank)
                linear.weight.requires_grad_(False)
                parametrize.register_parametrization(linear, "weight", update)


class LowRank(nn.Module):
    """A weight plus the product of two small ones; of experts, two for each."""

    roles = {"down": "update", "up": "update"}

    def __init__(self, shape: torch.Size, rank: int, scale: float) -> None:
        super().__init__()
        *groups, out_features, in_features = shape
        self.scale = scale
        self.down = nn.Parameter(torch.randn(*groups, rank, in_features) * in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(*groups, out_features, rank))

    def forward(self, weight: Float[Tensor, "*E out in"]) -> Float[Tensor, "*E out in"]:
        return weight + self.scale * (self.up @ self.down)


def merge_updates(module: nn.Module) -> None:
    """Adds every update to its weight, in place."""
    for child in module.modules():
        if isinstance(child, LINEAR) and parametrize.is_parametrized(child, "weight"):
            parametrize.remove_parametrizations(child, "weight", leave_parametrized=True)


def freeze(module: nn.Module, patterns: list[str]) -> None:
    """Freezes the parameters whose names match.

    Raises:
        InvalidValue: a pattern matches none, or nothing is left to learn.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))  # a shared parameter has several names
    for pattern in patterns:
        matching = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matching:
            raise InvalidValue("freeze", pattern, "matches no parameter")
        for name in matching:
            parameters[name].requires_grad_(False)
