"""Long short-term memory as a mixer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.recurrence import Recurrence, State


class LSTM(Recurrence):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), whose forget gate begins open, at a bias of 1 (Gers et
    al. 2000; Jozefowicz et al. 2015). What is added to a token is the hidden state.

    Args:
        dim: width D, of tokens and state.
        num_heads: unused.
    """

    exports = False
    roles = {"lstm.bias_ih_l0": "state"}  # which stays as it begins; the other bias begins at zero

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        gates = torch.zeros(4, dim)  # input, forget, cell, output
        gates[1] = 1.0
        self.lstm.bias_ih_l0 = nn.Parameter(gates.flatten())

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        before = tuple(part.transpose(0, 1).contiguous() for part in state) if state else None
        if x.device.type == "cpu":  # where torch's own has no bfloat16 without AVX-512
            with torch.autocast("cpu", enabled=False):
                mixed, after = self.lstm(x.to(next(self.lstm.parameters()).dtype), before)
        else:
            mixed, after = self.lstm(x, before)
        return mixed.to(x.dtype), tuple(part.transpose(0, 1) for part in after)
