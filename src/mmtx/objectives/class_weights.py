"""How much each class counts in a loss."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from mmtx.errors import InvalidValue, nearest


def given_weights(given: Mapping[Any, Any], names: Sequence[str]) -> Float[Tensor, " classes"]:
    """The weights of a config, in the order of the classes; 1 for those that it does not name.

    Raises:
        InvalidValue: it names what is no class, or a weight is no number of at least 0, or all are 0.
    """
    weights = dict.fromkeys(names, 1.0)
    for name, weight in given.items():
        if str(name) not in weights:
            raise InvalidValue(f"class_weights.{name}", weight, f"is of no class; {nearest(str(name), names)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InvalidValue(f"class_weights.{name}", weight, "must be a number of at least 0, and finite")
        weights[str(name)] = float(weight)
    if not any(weights.values()):
        raise InvalidValue("class_weights", dict(given), "are all 0")
    return torch.tensor(list(weights.values()))


def balanced_weights(members: Num[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Inversely proportional to how often classes occur, so that each counts for as much: n / (classes * members), as
    scikit-learn has it. A class that training lacks is taken to occur once."""
    members = members.double()
    return (members.sum() / (len(members) * members.clamp(min=1))).float()
