"""Minimal long short-term memory as a mixer. Axes as in `layer_context`."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmtx.nn.min_recurrence import Logs, MinRecurrence


class MinLSTM(MinRecurrence):
    """Minimal long short-term memory (Feng et al. 2024, arXiv 2410.01201): what a forget gate keeps and an input gate
    takes are divided by their sum.

    Args:
        dim: width D.
        num_heads: unused.
        expansion: features of the state as a multiple of `dim`.
    """

    def __init__(self, dim: int, num_heads: int, *, expansion: float) -> None:
        super().__init__(dim, ("forget", "input"), expansion)

    def shares(self, gates: Sequence[Float[Tensor, "samples n H"]]) -> tuple[Logs, Logs]:
        keep = F.logsigmoid(gates[0]) - F.logsigmoid(gates[1])
        return F.logsigmoid(keep), F.logsigmoid(-keep)
