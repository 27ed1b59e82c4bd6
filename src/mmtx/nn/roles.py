"""What each parameter is for. Its initial values, weight decay, learning rate and optimiser follow from that."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeVar, cast, get_args

from torch import Tensor, nn

from mmtx.errors import UserError

Role = Literal["matrix", "filter", "input", "head", "embedding", "position", "token", "gain", "bias", "state", "update"]
"""matrix: of a linear map within the model; with three axes, of one for each index of the first
filter: of a convolution
input: of the linear map, or the convolution, that data enter by; its fan-in is theirs, whatever the width
head: of the linear map that a prediction, or the choice of an expert, is read from
embedding: a vector for each id, or for each name
position: the same for each place, moment or distance
token: a vector in the set that no data gives
gain: what features, or all scores, are multiplied by
bias: what is added to features or scores
state: what a recurrence is made of besides its matrices
update: a low-rank update of a matrix"""

ROLES: tuple[Role, ...] = get_args(Role)

MULTIPLYING: frozenset[Role] = frozenset({"matrix", "filter", "input", "head"})
"""Roles of what multiplies many features: initial spread by the fan-in, and weight decay."""

GROWING: frozenset[Role] = MULTIPLYING - {"input"}
"""Roles of what multiplies features of the model, of which there are more where it is wider."""

LOOKED_UP: frozenset[Role] = frozenset({"embedding", "position"})
"""Roles of tables."""

Rows = Mapping[str, int]
"""Of matrices that are stored one below the other, the rows of each, by its name."""

Value = TypeVar("Value")

TABLE: tuple[tuple[tuple[type[nn.Module], ...], dict[str, Role]], ...] = (
    ((nn.Linear,), {"weight": "matrix", "bias": "bias"}),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), {"weight": "filter", "bias": "bias"}),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), {"weight": "filter", "bias": "bias"}),
    ((nn.Embedding, nn.EmbeddingBag), {"weight": "embedding"}),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), {"weight": "gain", "bias": "bias"}),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), {"weight": "gain", "bias": "bias"}),
    ((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), {"weight": "gain", "bias": "bias"}),
    ((nn.PReLU,), {"weight": "gain"}),
    ((nn.LSTM, nn.GRU), {"weight_*": "matrix", "bias_*": "bias"}),
)
"""Roles in torch's own layers."""

GATES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.LSTM: ("input", "forget", "cell", "output"),
    nn.GRU: ("reset", "update", "new"),
}
"""In the order in which torch stores their matrices."""


def roles_of(module: nn.Module) -> dict[str, Role]:
    """The role of every parameter, by its name.

    A module gives them as ``roles = {name: role}``, of its own parameters and of those within its children, where ``*``
    stands for any part of a name. The outermost module that names a parameter decides. torch's own layers have a
    default (`TABLE`).

    Raises:
        UserError: a parameter has no role, or one that does not exist.
    """
    known = known_roles(module)
    for name, _ in module.named_parameters():
        owner, _, own = name.rpartition(".")
        where = f"parameter {name} of {type(module.get_submodule(owner)).__name__}"
        if name not in known:
            hint = f"declare roles = {{'{own}': ROLE}} in that class, or in one that holds it"
            raise UserError(f"{where} has no role: {hint}; ROLE is one of {', '.join(ROLES)}")
        if known[name] not in ROLES:
            raise UserError(f"{where} has the role '{known[name]}'; a role is one of {', '.join(ROLES)}")
    return cast(dict[str, Role], known)


def known_roles(module: nn.Module) -> dict[str, str]:
    """The same, unchecked, without parameters that have no role."""
    return _declared(module, _own_roles)


def counts_by_role(module: nn.Module) -> dict[str, int]:
    """How many numbers the parameters of each role have. Raises UserError as `roles_of` does."""
    counts = Counter[str]()
    for name, role in roles_of(module).items():
        counts[role] += module.get_parameter(name).numel()
    return dict(counts)


def rows_of(module: nn.Module) -> dict[str, Rows]:
    """Of every parameter that is several matrices, one below the other, the rows of each.

    A module gives them as ``stored_together = {name: {"query": rows, ...}}``. In a matrix of three axes these are
    stored together at each index of the first, so that their names begin with it: ``3.gate``.
    """
    declared, roles = _declared(module, _own_rows), known_roles(module)
    stacked = {name: p for name, p in module.named_parameters() if is_stacked(p, roles.get(name))}
    return declared | {name: _rows_by_index(p.shape, declared.get(name)) for name, p in stacked.items()}


def is_stacked(parameter: Tensor, role: str | None) -> bool:
    """Whether it is a matrix for each index of its first axis."""
    return role == "matrix" and parameter.dim() == 3


def _rows_by_index(shape: Sequence[int], rows: Rows | None) -> Rows:
    if rows is None:
        return {f"{index}": shape[1] for index in range(shape[0])}
    return {f"{index}.{name}": count for index in range(shape[0]) for name, count in rows.items()}


def residual_writers(module: nn.Module) -> set[str]:
    """The matrices whose product is added to the residual stream, by their names.

    A module gives them as ``writes_residual = (name, ...)``, of its own parameters and of those within its children.
    """
    return {*_declared(module, lambda child: dict.fromkeys(getattr(child, "writes_residual", ()), True))}


def _declared(module: nn.Module, own: Callable[[nn.Module], Mapping[str, Value]]) -> dict[str, Value]:
    """What modules declare of the parameters within them; parents come before their children."""
    found: dict[int, Value] = {}
    for child in module.modules():
        patterns = own(child)
        for name, parameter in child.named_parameters() if patterns else ():
            for pattern, value in patterns.items():
                if fnmatchcase(_as_written(name), pattern):
                    found.setdefault(id(parameter), value)
    return {name: found[id(p)] for name, p in module.named_parameters() if id(p) in found}


def _as_written(name: str) -> str:
    """The name of a weight without its low-rank updates."""
    return name.replace("parametrizations.", "").removesuffix(".original")


def _own_roles(module: nn.Module) -> Mapping[str, str]:
    default = next((roles for kinds, roles in TABLE if isinstance(module, kinds)), {})
    return {**getattr(module, "roles", {}), **default}


def _own_rows(module: nn.Module) -> Mapping[str, Rows]:
    gates = next((names for kind, names in GATES.items() if isinstance(module, kind)), None)
    if gates is not None:
        assert isinstance(module, nn.RNNBase)
        return {"weight_[ih]h_*": dict.fromkeys(gates, module.hidden_size)}
    return getattr(module, "stored_together", {})
