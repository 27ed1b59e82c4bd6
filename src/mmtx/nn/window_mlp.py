"""The neural language model of 2003 as a mixer. Axes as in `layer_context`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import check_at_least
from mmtx.nn.mlp import hidden_width
from mmtx.nn.recurrence import Recurrence, State


class WindowMLP(Recurrence):
    """``U tanh(d + H x) + W x + b``, of the last tokens side by side, x (Bengio et al. 2003, "A neural probabilistic
    language model", equation 1, whose softmax is the objective's). Where a sample has no token yet, x is zero.

    With ``residual: false`` in its kind of layer, one layer without norms and feed-forward is that model. Its scores
    are read through the D features of a token: U, W and b of the paper are those here times the head.

    Args:
        dim: width D.
        num_heads: unused.
        window: tokens in x, the token itself among them; n - 1 of the paper's n-grams.
        expansion: hidden units as a multiple of `dim`.
        direct: W, the connections from x to the output.
    """

    writes_residual = ("out.weight", "direct.weight")

    def __init__(self, dim: int, num_heads: int, *, window: int, expansion: float, direct: bool) -> None:
        super().__init__()
        check_at_least("attention.window", window, 1)
        self.past, hidden = window - 1, hidden_width(dim, expansion, 1)
        self.hidden = nn.Linear(window * dim, hidden)
        self.out = nn.Linear(hidden, dim)
        self.direct = nn.Linear(window * dim, dim, bias=False) if direct else None

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        tokens = torch.cat([state[0], x], dim=1) if state else F.pad(x, (0, 0, self.past, 0))
        length = x.shape[1]
        side_by_side = torch.cat([tokens[:, first : first + length] for first in range(self.past + 1)], dim=-1)
        mixed = self.out(self.hidden(side_by_side).tanh())
        if self.direct is not None:
            mixed = mixed + self.direct(side_by_side)
        return mixed, (tokens[:, length:],)
