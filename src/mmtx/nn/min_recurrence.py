"""Recurrences whose gates see the token alone, so that all tokens are computed at once. Axes as in `layer_context`."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.nn.mlp import hidden_width
from mmtx.nn.recurrence import Recurrence, State, precise

Logs = Float[Tensor, "samples n H"]
"""Logarithms of positive numbers, of H features."""


class MinRecurrence(Recurrence):
    """``state = keep · state + take · candidate``, of positive candidates (Feng et al. 2024, arXiv 2410.01201).

    Args:
        dim: width D.
        gates: names of the linear maps that `shares` reads.
        expansion: features H of the state as a multiple of `dim`.
    """

    writes_residual = ("out.weight",)

    def __init__(self, dim: int, gates: Sequence[str], expansion: float) -> None:
        super().__init__()
        hidden = hidden_width(dim, expansion, 1)
        rows = dict.fromkeys(("candidate", *gates), hidden)
        self.into = nn.Linear(dim, sum(rows.values()), bias=False)
        self.stored_together = {"into.weight": rows}
        self.out = nn.Linear(hidden, dim, bias=False)

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        candidate, *gates = precise(self.into(x)).chunk(len(self.stored_together["into.weight"]), dim=-1)
        keep, take = self.shares(gates)
        states = scan(keep, take + log_positive(candidate), state[0] if state else None)
        return self.out(states.exp().to(x.dtype)), (states[:, -1:],)

    @abstractmethod
    def shares(self, gates: Sequence[Float[Tensor, "samples n H"]]) -> tuple[Logs, Logs]:
        """What is kept of the state, and what is taken of the candidate; they sum to 1."""


def scan(keep: Logs, added: Logs, state: Float[Tensor, "samples 1 H"] | None) -> Logs:
    """The states of a recurrence, ``state = keep · state + added``, all in logarithms (Heinsen 2023, arXiv 2311.06281).

    Args:
        keep: of each token.
        added: of each token.
        state: before the first; None: zero.
    """
    kept = keep.cumsum(1)
    sums = (added - kept).logcumsumexp(1)
    return kept + (sums if state is None else torch.logaddexp(sums, state))


def log_positive(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The logarithm of ``x + 1/2`` where x is positive, of its sigmoid elsewhere (appendix B.2.2)."""
    return torch.where(x >= 0, (F.relu(x) + 0.5).log(), F.logsigmoid(x))
