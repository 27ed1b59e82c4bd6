"""The feed-forward half of a block. Made by ``mlp(dim)``."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least, check_fraction


class MLP(nn.Module):
    """Two linear maps with an activation between, optionally gated (Shazeer 2020, arXiv 2002.05202).

    Args:
        dim: width D.
        activation: a module; with ``gated=True`` it is applied to the gate (SiLU gives SwiGLU), or is a `Gate`.
        expansion: hidden width as a multiple of `dim`.
        multiple_of: the hidden width is rounded to a multiple of this.
        gated: multiply by a gate; the usual `expansion` is then 8/3, for an equal number of parameters.
        bias: biases in both linear maps.
        dropout: of what the second map reads.
    """

    writes_residual = ("down.weight",)

    def __init__(
        self,
        dim: int,
        *,
        activation: nn.Module,
        expansion: float,
        multiple_of: int,
        gated: bool,
        bias: bool,
        dropout: float = 0.0,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__()
        check_gate(activation, gated)
        check_fraction("dropout", dropout)
        hidden = hidden_width(dim, expansion, multiple_of)
        self.gated = gated
        self.up = nn.Linear(dim, 2 * hidden if gated else hidden, bias=bias)
        self.stored_together = {"up.weight": {"gate": hidden, "value": hidden}} if gated else {}
        self.activation, self.dropout = activation, nn.Dropout(dropout)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return self.down(self.dropout(activated(self.activation, self.up(x), self.gated)))


class Gate(nn.Module, ABC):
    """An activation of a gate and a value together."""

    @abstractmethod
    def forward(self, gate: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]: ...


class ClampedSwiGLU(Gate):
    """``gate σ(alpha gate) (value + 1)``, the gate at most `limit` and the value within ±`limit` (gpt-oss, arXiv
    2508.10925; ``alpha = 1.702`` is the sigmoid that is next to GELU, arXiv 1606.08415).

    Args:
        alpha: steepness of the sigmoid.
        limit: of gate and value.
    """

    def __init__(self, *, alpha: float, limit: float) -> None:
        super().__init__()
        check_at_least("limit", limit, 0)
        self.alpha, self.limit = alpha, limit

    def forward(self, gate: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        gate, value = gate.clamp(max=self.limit), value.clamp(-self.limit, self.limit)
        return gate * (self.alpha * gate).sigmoid() * (value + 1)


def activated(activation: nn.Module, hidden: Float[Tensor, "*rows up"], gated: bool) -> Float[Tensor, "*rows hidden"]:
    """What the second linear map reads: of the first's output, whose halves are gate and value if it is gated."""
    if not gated:
        return activation(hidden)
    gate, value = hidden.chunk(2, dim=-1)
    return activation(gate, value) if isinstance(activation, Gate) else activation(gate) * value


def check_gate(activation: nn.Module, gated: bool) -> None:
    """Raises InvalidValue for a `Gate` of what is not gated."""
    if isinstance(activation, Gate) and not gated:
        raise InvalidValue("gated", gated, f"gives {type(activation).__name__} no value beside the gate", "true")


def hidden_width(dim: int, expansion: float, multiple_of: int) -> int:
    """The multiple that is next to ``dim * expansion``."""
    return multiple_of * max(1, round(dim * expansion / multiple_of))


class QuickGELU(nn.Module):
    """``x · sigmoid(1.702 x)``, by which CLIP approximates GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x * (1.702 * x).sigmoid()


class SquaredReLU(nn.Module):
    """``max(x, 0)²`` (So et al. 2021, Primer, arXiv 2109.08668)."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return F.relu(x).square()
