"""A gated short convolution as a mixer."""

from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import check_at_least
from mmtx.nn.causal_conv import CausalConv
from mmtx.nn.recurrence import Recurrence, State


class ShortConv(Recurrence):
    """What a token and the few before it hold, weighed by two gates: ``out(read · conv(write · value))``, where
    `write`, `read` and `value` follow from the token (LFM2, Liquid AI 2025, arXiv 2511.23404). Before a layer of
    attention it moves a token's neighbour into it, without which an associative memory is learnt slowly (Arora et al.
    2023, arXiv 2312.04927).

    Args:
        dim: width D.
        num_heads: unused.
        width: tokens that an output sees, its own included.
    """

    writes_residual = ("out.weight",)

    def __init__(self, dim: int, num_heads: int, *, width: int) -> None:
        super().__init__()
        check_at_least("attention.width", width, 2)
        self.into = nn.Linear(dim, 3 * dim, bias=False)
        self.stored_together = {"into.weight": {"write": dim, "read": dim, "value": dim}}
        self.conv = CausalConv(dim, bias=False, width=width)
        self.out = nn.Linear(dim, dim, bias=False)

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        write, read, value = self.into(x).chunk(3, dim=-1)
        convolved, seen = self.conv(write * value, state[0] if state else None)
        return self.out(read * convolved), (seen,)
