"""The feed-forward half of a block. Made by ``mlp(dim)``."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear maps with an activation between, optionally gated (Shazeer 2020, arXiv 2002.05202).

    Args:
        dim: width D.
        activation: a module; with ``gated=True`` it is applied to the gate (SiLU gives SwiGLU).
        expansion: hidden width as a multiple of `dim`.
        multiple_of: the hidden width is rounded to a multiple of this.
        gated: multiply by a gate; the usual `expansion` is then 8/3, for an equal number of parameters.
        bias: biases in both linear maps.
    """

    writes_residual = ("down.weight",)

    def __init__(
        self, dim: int, *, activation: nn.Module, expansion: float, multiple_of: int, gated: bool, bias: bool
    ) -> None:
        super().__init__()
        hidden = hidden_width(dim, expansion, multiple_of)
        self.gated = gated
        self.up = nn.Linear(dim, 2 * hidden if gated else hidden, bias=bias)
        self.stored_together = {"up.weight": {"gate": hidden, "value": hidden}} if gated else {}
        self.activation = activation
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        hidden = self.up(x)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            return self.down(self.activation(gate) * value)
        return self.down(self.activation(hidden))


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
