"""A minimal gated recurrent unit as a mixer. Axes as in `layer_context`."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmtx.nn.min_recurrence import Logs, MinRecurrence


class MinGRU(MinRecurrence):
    """A minimal gated recurrent unit (Feng et al. 2024, arXiv 2410.01201): one gate takes, and keeps the rest.

    Args:
        dim: width D.
        num_heads: unused.
        expansion: features of the state as a multiple of `dim`.
    """

    def __init__(self, dim: int, num_heads: int, *, expansion: float) -> None:
        super().__init__(dim, ("gate",), expansion)

    def shares(self, gates: Sequence[Float[Tensor, "samples n H"]]) -> tuple[Logs, Logs]:
        return F.logsigmoid(-gates[0]), F.logsigmoid(gates[0])
