"""Low-rank updates (LoRA) of linear maps whose own weights are frozen (Hu et al. 2021, arXiv 2106.09685)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TypeVar

from torch import nn

from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.low_rank_update import LINEAR, LowRank, add_update, original_of
from mmtx.nn.quantised import Bits, quantise, quantised
from mmtx.nn.roles import Role, known_roles, rows_of
from mmtx.nn.stacked_linear import ALL

Value = TypeVar("Value")


@dataclass(frozen=True)
class Target:
    """A linear map, or one of the matrices that are stored in it.

    Attributes:
        name: of the map, and of the matrix behind it.
        weight: the name of the whole weight.
        linear: the map.
        rows: of the weight.
    """

    name: str
    weight: str
    linear: nn.Module
    rows: slice


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
        quantised: the frozen weights that have updates are stored as ``int8`` or ``nf4``; null: as they are.
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
        quantised: Bits | None = None,
    ) -> None:
        self.ranks, self.alphas = {**(ranks or {}), "*": rank}, {**(alphas or {}), "*": alpha}
        for pattern, own in self.ranks.items():
            check_at_least("rank" if pattern == "*" else f"ranks.{pattern}", own, 1)
        check_fraction("dropout", dropout)
        self.targets, self.roles, self.rank_stabilised = list(targets), roles, rank_stabilised
        self.magnitudes, self.dropout, self.quantised = magnitudes, dropout, quantised

    def add(self, module: nn.Module) -> None:
        """Adds updates in place; they begin at zero.

        Raises:
            InvalidValue: a pattern matches no linear map, or a head's features are to be dropped.
        """
        for target in self._chosen(module):
            rank, alpha = _first(self.ranks, target.name), _first(self.alphas, target.name)
            scale = alpha / (rank**0.5 if self.rank_stabilised else rank)
            if self.quantised is not None and not quantised(target.linear):
                quantise(target.linear, self.quantised)
            own = LowRank(original_of(target.linear), rank, scale, target.rows, self.magnitudes, self.dropout)
            add_update(target.linear, own)

    def _chosen(self, module: nn.Module) -> list[Target]:
        """A map as a whole where its name matches, else those of the matrices in it whose names do."""
        roles = known_roles(module)
        self._check_recurrences(module)
        possible = [t for t in targets_of(module) if self.roles is None or roles.get(t.weight) in self.roles]
        for pattern in self.targets:
            if not any(fnmatchcase(target.name, pattern) for target in possible):
                raise InvalidValue("targets", pattern, "matches no linear map")
        matching = [target for target in possible if any(fnmatchcase(target.name, each) for each in self.targets)]
        wholes = {target.weight for target in matching if target.rows == ALL}
        self._check_dropout([target.name for target in matching if roles.get(target.weight) == "head"])
        return [target for target in matching if target.rows == ALL or target.weight not in wholes]

    def _check_recurrences(self, module: nn.Module) -> None:
        """What reads its own weights, of which torch's recurrences make no product with one, can have no updates."""
        names = [name for name, child in module.named_modules() if isinstance(child, nn.RNNBase)]
        for pattern in self.targets if self.roles is None or "matrix" in self.roles else ():
            for name in names:
                if fnmatchcase(name, pattern):
                    problem = f"matches {name}, whose matrices cannot have updates, as they are no linear maps"
                    raise InvalidValue("targets", pattern, problem, "patterns of the other maps")

    def _check_dropout(self, heads: Sequence[str]) -> None:
        """Losses read the weights of heads themselves, and no features."""
        if self.dropout and heads:
            raise InvalidValue("dropout", self.dropout, f"cannot be of the features of a head: {heads[0]}", "0")


def targets_of(module: nn.Module) -> list[Target]:
    """All that may be updated: linear maps, each followed by the matrices that are stored in it."""
    stacked, found = rows_of(module), list[Target]()
    for name, child in module.named_modules():
        if isinstance(child, LINEAR):
            weight, is_matrix = f"{name}.weight", original_of(child).dim() == 2  # of experts, there is one for each
            rows = stacked.get(weight, {}) if is_matrix else {}
            ends = pairwise([0, *accumulate(rows.values())])
            parts = {f"{name}.{part}": slice(*both) for part, both in zip(rows, ends, strict=True)}
            found += [Target(own, weight, child, rows) for own, rows in {name: ALL, **parts}.items()]
    return found


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
