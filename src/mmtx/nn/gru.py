"""A gated recurrent unit as a mixer."""

from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.recurrence import Recurrence, State


class GRU(Recurrence):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078). What is added to a token is its state.

    Args:
        dim: width D, of tokens and state.
        num_heads: unused.
    """

    exports = False

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        mixed, after = self.gru(x, state[0].transpose(0, 1).contiguous() if state else None)
        return mixed, (after.transpose(0, 1),)
