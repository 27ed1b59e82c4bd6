"""Low-rank updates (LoRA) of linear maps whose own weights are frozen (Hu et al. 2021, arXiv 2106.09685)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TypeVar

from torch import nn

from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.low_rank_update import LINEAR, LowRank, add_update, original_of
from mmtx.nn.roles import Role, Rows, known_roles, rows_of
from mmtx.nn.stacked_linear import ALL

Value = TypeVar("Value")
Target = tuple[str, nn.Module, slice]
"""The name of a linear map, or of one of the matrices that are stored in it; the map; and the rows of that."""


class LoRA:
    """Adds low-rank updates to linear maps: ``W + alpha / rank · up · down``.

    Args:
        rank: of the update.
        alpha: its scale, over the rank.
        targets: patterns of the maps' names, such as ``*attention.qkv``, or of one matrix in such a map,
            ``*attention.qkv.query``.
        roles: of the weights to be updated, of those that match; null: all. ``[matrix]`` leaves heads as they are.
        rank_stabilised: the scale is over the root of the rank (Kalajdzievski 2023, arXiv 2312.03732).
        magnitudes: the length of each row of a weight is learnt by itself (DoRA; Liu et al. 2024, arXiv 2402.09353).
        dropout: of the features that an update is applied to.
        ranks: ``{pattern: rank}`` of targets that have another; the first that matches.
        alphas: ``{pattern: alpha}``, likewise.
    """

    def __init__(
        self,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        roles: Sequence[Role] | None = None,  # this and what follows: absent in stored configs of earlier versions
        rank_stabilised: bool = False,
        magnitudes: bool = False,
        dropout: float = 0.0,
        ranks: Mapping[str, int] | None = None,
        alphas: Mapping[str, float] | None = None,
    ) -> None:
        self.ranks, self.alphas = {**(ranks or {}), "*": rank}, {**(alphas or {}), "*": alpha}
        for pattern, own in self.ranks.items():
            check_at_least("rank" if pattern == "*" else f"ranks.{pattern}", own, 1)
        check_fraction("dropout", dropout)
        self.targets, self.roles, self.rank_stabilised = list(targets), roles, rank_stabilised
        self.magnitudes, self.dropout = magnitudes, dropout

    def add(self, module: nn.Module) -> None:
        """Adds updates in place; they begin at zero.

        Raises:
            InvalidValue: a pattern matches no linear map, or a head's features are to be dropped.
        """
        for name, linear, rows in self._chosen(module):
            rank, alpha = _first(self.ranks, name), _first(self.alphas, name)
            scale = alpha / (rank**0.5 if self.rank_stabilised else rank)
            weight = original_of(linear)
            update = LowRank(weight, rank, scale, rows=rows, magnitude=self.magnitudes, dropout=self.dropout)
            add_update(linear, update)

    def _chosen(self, module: nn.Module) -> list[Target]:
        """A map as a whole where its name matches, else those of the matrices in it whose names do."""
        roles, stacked = known_roles(module), rows_of(module)
        wholes = {name: child for name, child in module.named_modules() if isinstance(child, LINEAR)}
        if self.roles is not None:
            wholes = {name: child for name, child in wholes.items() if roles.get(f"{name}.weight") in self.roles}
        flat = {name for name, child in wholes.items() if original_of(child).dim() == 2}
        parts = {name: _parts(name, stacked.get(f"{name}.weight", {})) if name in flat else {} for name in wholes}
        names = [*wholes, *(part for several in parts.values() for part in several)]
        for pattern in self.targets:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InvalidValue("targets", pattern, "matches no linear map")
        chosen: list[Target] = []
        for name, child in wholes.items():
            own = {name: ALL} if self._matches(name) else parts[name]
            chosen += [(part, child, rows) for part, rows in own.items() if self._matches(part)]
        self._check_dropout([name for name, child, _ in chosen if roles.get(f"{name}.weight") == "head"])
        return chosen

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.targets)

    def _check_dropout(self, heads: Sequence[str]) -> None:
        """Losses read the weights of heads themselves, and no features."""
        if self.dropout and heads:
            raise InvalidValue("dropout", self.dropout, f"cannot be of the features of a head: {heads[0]}", "0")


def _parts(name: str, rows: Rows) -> dict[str, slice]:
    """The matrices that are stored in a map, by their names."""
    ends = pairwise([0, *accumulate(rows.values())])
    return {f"{name}.{part}": slice(*both) for part, both in zip(rows, ends, strict=True)}


def _first(values: Mapping[str, Value], name: str) -> Value:
    return next(value for pattern, value in values.items() if fnmatchcase(name, pattern))


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
