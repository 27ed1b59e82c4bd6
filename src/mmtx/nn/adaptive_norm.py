"""Norms whose scale and shift follow from a condition, and the gates that belong to them (DiT's adaLN-Zero; Peebles and
Xie 2022, arXiv 2212.09748)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.conditions import Conditions
from mmtx.errors import InvalidValue


class Modulation(nn.Module):
    """Some vectors for each token, from its condition c: a linear map of SiLU(c), which begins at zero.

    Args:
        dim: width D.
        count: vectors of a token.
    """

    draws_weights = True

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.dim, self.linear = dim, nn.Linear(dim, count * dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, conditions: Conditions | None) -> tuple[Float[Tensor, "*tokens D"], ...]:
        """The vectors, each of all tokens, or the same for all where there is no condition, as if it were zero."""
        vectors = self.linear.weight.new_zeros(1, self.dim) if conditions is None else conditions.vectors
        computed = self.linear(F.silu(vectors.to(self.linear.weight.dtype)))
        of_tokens = computed[0] if conditions is None else F.embedding(conditions.of_token, computed)
        return of_tokens.split(self.dim, dim=-1)


class AdaptiveNorm(nn.Module):
    """Layer normalisation without a gain of its own: times ``1 + scale``, plus ``shift``, which follow from a token's
    condition. With it, what a half of a block adds is multiplied by a gate that does, too.

    At the start all three are zero, so that a block gives what it is given.

    Args:
        dim: width D.
        eps: added to the variance.
    """

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__()
        self.eps, self.modulation = eps, Modulation(dim, 2)

    def forward(self, x: Float[Tensor, "B N D"], conditions: Conditions | None) -> Float[Tensor, "B N D"]:
        shift, scale = self.modulation(conditions)
        return torch.addcmul(shift.to(x), F.layer_norm(x, x.shape[-1:], eps=self.eps), (1 + scale).to(x))


def normalised(norm: nn.Module, x: Float[Tensor, "B N D"], conditions: Conditions | None) -> Float[Tensor, "B N D"]:
    """What any norm makes of tokens; those that do not adapt know of no condition."""
    return norm(x, conditions) if isinstance(norm, AdaptiveNorm) else norm(x)


def check_adaptive(input_norm: bool, norm_place: str, skip_first_norm: bool, has_memory_tokens: bool) -> None:
    """Raises InvalidValue where adaptive norms stand elsewhere than before a half, or tokens are cut into segments."""
    problem = "is not for adaptive norms, which stand before each half and at the end"
    if input_norm:
        raise InvalidValue("input_norm", True, problem, "false")
    if norm_place != "before":
        raise InvalidValue("norm_place", norm_place, problem, "before")
    if skip_first_norm:
        raise InvalidValue("skip_first_norm", True, problem, "false")
    if has_memory_tokens:
        raise InvalidValue("memory_tokens", "segments", "cut tokens, which adaptive norms take whole", "null")
