"""Diagonal state spaces as a mixer. Axes as in `layer_context`; S states of a feature, one of each conjugate pair."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from mmtx.errors import check_at_least
from mmtx.nn.recurrence import Recurrence, State, precise

SHORTEST, LONGEST = 0.001, 0.1
"""Steps at the start are log-uniform between them (section 4.2)."""

States = Complex[Tensor, "D S"]


class S4D(Recurrence):
    """S4D-Lin (Gu et al. 2022, arXiv 2206.11893): each feature drives a linear state space with diagonal matrix A, held
    over steps dt, ``h' = A h + x``, ``y = 2 Re(C h) + skip · x``; then GELU, a linear map and a gate (GLU).

    All tokens are computed at once, as a convolution with ``2 Re(C (exp(dt A) - 1) / A exp(dt A l))``, in float32.

    Args:
        dim: width D.
        num_heads: unused.
        state_dim: states of a feature, those of a conjugate pair counted apart.
    """

    roles = {"log_step": "state", "log_decay": "state", "frequency": "state", "read": "gain", "skip": "gain"}

    def __init__(self, dim: int, num_heads: int, *, state_dim: int) -> None:
        super().__init__()
        check_at_least("attention.state_dim", state_dim, 2)
        pairs = state_dim // 2
        self.log_step = nn.Parameter(torch.empty(dim).uniform_(math.log(SHORTEST), math.log(LONGEST)))
        self.log_decay = nn.Parameter(torch.full((dim, pairs), math.log(0.5)))
        self.frequency = nn.Parameter((math.pi * torch.arange(float(pairs))).repeat(dim, 1))
        self.read = nn.Parameter(torch.randn(dim, pairs, 2) / math.sqrt(2))
        self.skip = nn.Parameter(torch.randn(dim))
        self.out = nn.Linear(dim, 2 * dim)
        self.stored_together = {"out.weight": {"value": dim, "gate": dim}}

    def recur(
        self, x: Float[Tensor, "samples n D"], state: State | None
    ) -> tuple[Float[Tensor, "samples n D"], State | None]:
        u, length = precise(x).transpose(1, 2), x.shape[1]
        exponent, read = self._discrete()
        powers = torch.exp(exponent[..., None] * torch.arange(length, device=x.device))
        kernel = 2 * torch.einsum("ds,dsl->dl", read, powers).real
        y = convolved(u, kernel) + precise(self.skip)[:, None] * u
        if state:
            y = y + 2 * torch.einsum("ds,dsl,bds->bdl", read * exponent.exp(), powers, state[0]).real
        mixed = F.glu(self.out(F.gelu(y).transpose(1, 2).to(x.dtype)), dim=-1)
        if state is None:
            return mixed, None
        after = torch.einsum("dsl,bdl->bds", powers.flip(-1), u.to(powers.dtype))
        return mixed, (after + torch.exp(exponent * length) * state[0] if state else after,)

    def _discrete(self) -> tuple[States, States]:
        """``dt A``, and what reads the states: ``C (exp(dt A) - 1) / A``."""
        pole = torch.complex(-precise(self.log_decay).exp(), precise(self.frequency))
        exponent = precise(self.log_step).exp()[:, None] * pole
        read = torch.view_as_complex(precise(self.read).contiguous())
        return exponent, read * (exponent.exp() - 1) / pole


def convolved(x: Float[Tensor, "samples D n"], kernel: Float[Tensor, "D n"]) -> Float[Tensor, "samples D n"]:
    """Causally, by Fourier transforms of twice the length, in which nothing comes round."""
    length = x.shape[-1]
    product = torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
    return torch.fft.irfft(product, n=2 * length)[..., :length]
