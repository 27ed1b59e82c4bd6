"""Linear attention with the gated delta rule as a mixer. Axes as in `layer_context` and `chunks`; heads of E."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.causal_conv import CausalConv
from mmtx.nn.chunks import in_chunks, log_kept
from mmtx.nn.decay import Decay
from mmtx.nn.recurrence import Recurrence, State, precise

Heads = Float[Tensor, "b n H E"]
Gates = Float[Tensor, "b n H"]
Matrices = Float[Tensor, "b H E E"]


class GatedDelta(Recurrence):
    """Linear attention with the gated delta rule (Yang et al. 2024, arXiv 2412.06464). Each head has a matrix that maps
    keys to values. It decays, and what it gives for the token's key is moved towards the token's value, by a share:
    ``S = keep · S``, then ``S = S + share · k (v - k S)``, and ``y = q S``. A short convolution goes before, a
    normalisation and a gate behind.

    Args:
        dim: width D.
        num_heads: H; divides `dim`.
        negative: shares are up to 2 instead of 1, so that eigenvalues along a key, ``keep (1 - share)``, are in
            (-1, 1) instead of (0, 1), as counting parities needs (Grazzi et al. 2024, arXiv 2411.12537).
        chunk_size: tokens that are computed at once; between chunks, states go on. No number changes.
        decays: whether the state does; without it, ``keep`` is 1, as in the delta rule of Schlag et al. (2021, arXiv
            2102.11174), so that a state may last for any number of tokens.
    """

    writes_residual = ("out.weight",)

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        negative: bool,
        chunk_size: int,
        decays: bool = True,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__()
        check_at_least("attention.chunk_size", chunk_size, 1)
        if dim % num_heads:
            raise InvalidValue("dim", dim, f"is not a multiple of num_heads={num_heads}")
        self.num_heads, self.largest_share, self.chunk_size = num_heads, 2.0 if negative else 1.0, chunk_size
        rows = {"query": dim, "key": dim, "value": dim, "gate": dim, "share": num_heads}
        if decays:
            rows["step"] = num_heads
        self.into = nn.Linear(dim, sum(rows.values()), bias=False)
        self.stored_together = {"into.weight": rows}
        self.widths = [3 * dim, dim, *[num_heads] * (2 if decays else 1)]
        self.conv = CausalConv(3 * dim, bias=False)
        self.decay = Decay(num_heads) if decays else None
        self.norm = nn.RMSNorm(dim // num_heads, eps=1e-6)
        self.out = nn.Linear(dim, dim, bias=False)

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        convolved, gate, share, *step = self.into(x).split(self.widths, dim=-1)
        before, seen = state or (None, None)
        convolved, seen = self.conv(convolved, seen)
        convolved = F.silu(convolved)
        q, k, v = (self._heads(part) for part in convolved.chunk(3, dim=-1))
        shares = self.largest_share * precise(share).sigmoid()
        keep = torch.zeros_like(shares) if self.decay is None else self.decay(*step)[1]
        y, after = by_chunks(unit(q) * q.shape[-1] ** -0.5, unit(k), v, keep, shares, before, self.chunk_size)
        gated = self.norm(precise(y)) * F.silu(self._heads(gate))
        return self.out(gated.flatten(2).to(x.dtype)), (after, seen)

    def _heads(self, x: Float[Tensor, "samples n D"]) -> Float[Tensor, "samples n H E"]:
        return precise(x).unflatten(-1, (self.num_heads, -1))


def unit(x: Heads) -> Heads:
    """Of length 1, as in the reference, where lengths are not near 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


@torch.compiler.disable  # torch 2.14 expects another layout of its gradients than they have
def by_chunks(
    q: Heads, k: Heads, v: Heads, keep: Gates, share: Gates, state: Matrices | None, chunk_size: int
) -> tuple[Heads, Matrices]:
    """The rule, with the logarithm of what is kept; also the last state.

    Within a chunk, what tokens change depends on what those before them have changed: a triangular system, which is
    solved for a state of zero and for what reads the state before (Yang et al. 2024, arXiv 2406.06484, section 3).
    """
    length, chunk_size = q.shape[1], min(chunk_size, q.shape[1])
    q, k, v = (in_chunks(part, chunk_size).transpose(2, 3) for part in (q, k, v))
    share, keep = in_chunks(share, chunk_size).transpose(2, 3)[..., None], in_chunks(keep, chunk_size)
    kept, total = log_kept(keep).movedim(-1, 2).exp(), keep.cumsum(2).transpose(2, 3)[..., None]
    system = (share * k) @ k.mT * kept
    right = torch.cat([share * v, share * k * total.exp()], -1)
    moved, read = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True).chunk(2, dim=-1)
    pairs, q, k = q @ k.mT * kept, q * total.exp(), k * (total[..., -1:, :] - total).exp()
    through, outputs = total[..., -1:, :].exp(), []
    if state is None:
        state = v.new_zeros(len(v), v.shape[2], v.shape[-1], v.shape[-1])
    for chunk in range(q.shape[1]):
        change = moved[:, chunk] - read[:, chunk] @ state
        outputs.append(q[:, chunk] @ state + pairs[:, chunk] @ change)
        state = through[:, chunk] * state + k[:, chunk].mT @ change
    return torch.stack(outputs, 1).transpose(2, 3).flatten(1, 2)[:, :length], state
