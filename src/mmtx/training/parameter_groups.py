"""Parameters by their roles, in groups, as optimisers take them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from mmtx.nn.roles import GROWING, MULTIPLYING, ROLES, Role, roles_of, rows_of
from mmtx.nn.width import width_ratio_of

Group = dict[str, Any]
"""Parameters under ``params``, with their ``role``, ``lr`` and ``weight_decay``."""

Parts = Mapping[nn.Parameter, Mapping[str, nn.Parameter]]
"""Of parameters that are several matrices, one below the other, each of them by its name, in the same memory."""


def groups_by_role(
    module: nn.Module,
    lr: float,
    rates: Mapping[str, float],
    weight_decay: float,
    slower_where_wider: Collection[Role] = GROWING,
) -> list[Group]:
    """The parameters that are trained, a group for each role that there is, in the order of `ROLES`.

    Args:
        module: whose parameters.
        lr: base learning rate.
        rates: of roles, as multiples of it.
        weight_decay: of what multiplies.
        slower_where_wider: roles whose rate is divided by the width over that of the base (`mmtx.nn.width`). Their
            decay is multiplied by it, as in the package mup: a step takes off the same share of a weight.

    Raises:
        UserError: a parameter has no role.
    """
    roles, members = roles_of(module), dict[Role, list[nn.Parameter]]()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            members.setdefault(roles[name], []).append(parameter)
    slower = dict.fromkeys(slower_where_wider, width_ratio_of(module))
    return [
        {
            "params": members[role],
            "role": role,
            "lr": lr * rates.get(role, 1.0) / slower.get(role, 1.0),
            "weight_decay": weight_decay * slower.get(role, 1.0) if role in MULTIPLYING else 0.0,
        }
        for role in ROLES
        if role in members
    ]


def merged(groups: Sequence[Group]) -> list[Group]:
    """Groups that are stepped alike as one, without a role, for speed. What is decayed comes first."""
    found: dict[Any, Group] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "role"}
        alike = found.setdefault(
            (group["lr"], group["weight_decay"], group["role"] in MULTIPLYING), {**settings, "params": []}
        )
        alike["params"] += group["params"]
    return list(found.values())


def parts_of(module: nn.Module) -> Parts:
    """The matrices of every parameter that is several."""
    rows = rows_of(module)
    return {p: _cut(p, rows[name]) for name, p in module.named_parameters() if name in rows and p.requires_grad}


def taken_apart(parameters: Sequence[nn.Parameter], parts: Parts) -> list[nn.Parameter]:
    """Parameters, and of those that are several matrices each of them."""
    return [piece for p in parameters for piece in (parts[p].values() if p in parts else (p,))]


def _cut(parameter: nn.Parameter, rows: Mapping[str, int]) -> dict[str, nn.Parameter]:
    pieces = parameter.detach().flatten(0, -2).split(list(rows.values()))
    return {name: nn.Parameter(piece) for name, piece in zip(rows, pieces, strict=True)}
