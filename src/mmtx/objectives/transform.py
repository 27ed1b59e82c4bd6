"""The head between hidden states and the scores of ids, or of classes."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from mmtx.errors import InvalidValue

Biased = Literal["linear", "norm"]


class Transform(nn.Sequential):
    """A linear map, an activation and a normalisation (Devlin et al. 2018). Made by ``transform(dim)``.

    Args:
        dim: width D of what comes and goes.
        activation: behind the linear map.
        norm_eps: of the normalisation.
        biases: which of the two have a bias; None: both.
    """

    def __init__(
        self, dim: int, *, activation: nn.Module, norm_eps: float, biases: Sequence[str] | None = None
    ) -> None:
        unknown = [name for name in biases or () if name not in get_args(Biased)]
        if unknown:
            raise InvalidValue("biases", list(biases or ()), f"may name linear and norm; not {unknown[0]}")
        linear = nn.Linear(dim, dim, bias=biases is None or "linear" in biases)
        norm = nn.LayerNorm(dim, eps=norm_eps, bias=biases is None or "norm" in biases)
        super().__init__(linear, activation, norm)
