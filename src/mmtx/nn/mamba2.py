"""Mamba 2 as a mixer. Axes as in `layer_context`; H heads of E features, S states of each, G groups of heads, L tokens
of a chunk."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.causal_conv import CausalConv
from mmtx.nn.chunks import in_chunks, log_kept
from mmtx.nn.decay import Decay
from mmtx.nn.mlp import hidden_width
from mmtx.nn.norms import GroupedRMSNorm
from mmtx.nn.recurrence import Recurrence, State, precise


class Mamba2(Recurrence):
    """A selective state space (Dao and Gu 2024, arXiv 2405.21060): ``h = keep · h + step · x ⊗ write``, and
    ``y = h · read + skip · x``. What is kept, written and read follows from the token, and is shared by the features of
    a head. A short convolution goes before, a gate and a normalisation behind.

    Args:
        dim: width D.
        num_heads: H.
        expansion: features of all heads as a multiple of `dim`.
        state_dim: states S of each feature.
        chunk_size: tokens that are computed at once, as attention is; between chunks, states go on. No number changes.
        num_groups: G; the heads of a group share what they write and read, and are normalised together.
    """

    roles = {"skip": "gain"}
    writes_residual = ("out.weight",)

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        expansion: float,
        state_dim: int,
        chunk_size: int,
        num_groups: int = 1,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__()
        check_at_least("attention.state_dim", state_dim, 1)
        check_at_least("attention.chunk_size", chunk_size, 1)
        hidden = hidden_width(dim, expansion, 1)
        if hidden % num_heads:
            raise InvalidValue("attention.expansion", expansion, f"gives {hidden} features for num_heads={num_heads}")
        check_at_least("attention.num_groups", num_groups, 1)
        if num_heads % num_groups:
            raise InvalidValue("attention.num_groups", num_groups, f"does not divide num_heads={num_heads}")
        self.num_heads, self.num_groups, self.chunk_size = num_heads, num_groups, chunk_size
        states = num_groups * state_dim
        rows = {"gate": hidden, "value": hidden, "write": states, "read": states, "step": num_heads}
        self.into = nn.Linear(dim, sum(rows.values()), bias=False)
        self.stored_together = {"into.weight": rows}
        self.widths = [hidden, states, states]
        self.conv = CausalConv(sum(self.widths), bias=True)
        self.decay = Decay(num_heads)
        self.skip = nn.Parameter(torch.ones(num_heads))
        self.norm = GroupedRMSNorm(hidden, num_groups, eps=1e-5)
        self.out = nn.Linear(hidden, dim, bias=False)

    def recur(self, x: Float[Tensor, "samples n D"], state: State | None) -> tuple[Float[Tensor, "samples n D"], State]:
        gate, convolved, step = self.into(x).split([self.widths[0], sum(self.widths), self.num_heads], dim=-1)
        before, seen = state or (None, None)
        convolved, seen = self.conv(convolved, seen)
        convolved = F.silu(convolved)
        value, write, read = precise(convolved).split(self.widths, dim=-1)
        value = value.unflatten(-1, (self.num_heads, -1))
        write, read = (part.unflatten(-1, (self.num_groups, -1)) for part in (write, read))
        step, keep = self.decay(step)
        y, after = by_chunks(value * step[..., None], keep, write, read, before, self.chunk_size)
        y = (y + precise(self.skip)[:, None] * value).flatten(2)
        return self.out(self.norm(y * F.silu(precise(gate))).to(x.dtype)), (after, seen)


@torch.compiler.disable  # Inductor of torch 2.14 raises where the size of a chunk follows from a length that varies
def by_chunks(
    value: Float[Tensor, "b n H E"],
    keep: Float[Tensor, "b n H"],
    write: Float[Tensor, "b n G S"],
    read: Float[Tensor, "b n G S"],
    state: Float[Tensor, "b H E S"] | None,
    chunk_size: int,
) -> tuple[Float[Tensor, "b n H E"], Float[Tensor, "b H E S"]]:
    """``h = exp(keep) · h + value ⊗ write``, and ``h · read`` of each token; also the last state. Within chunks they
    are computed as scores of pairs of tokens, between them from state to state (section 6)."""
    length, chunk_size = value.shape[1], min(chunk_size, value.shape[1])
    value, keep, write, read = (in_chunks(part, chunk_size) for part in (value, keep, write, read))
    total, by_group = keep.cumsum(2), (write.shape[3], -1)
    shared = torch.einsum("bcigs,bcjgs->bcijg", read, write)[..., None]
    scores = (shared * log_kept(keep).exp().unflatten(-1, by_group)).flatten(-2)
    within = torch.einsum("bcijh,bcjhe->bcihe", scores, value)
    left = (value * (total[:, :, -1:] - total).exp()[..., None]).unflatten(3, by_group)
    added = torch.einsum("bcjgs,bcjgke->bcgkes", write, left).flatten(2, 3)
    states = [value.new_zeros(added[:, 0].shape) if state is None else state]
    for chunk in range(value.shape[1]):
        states.append(total[:, chunk, -1].exp()[..., None, None] * states[-1] + added[:, chunk])
    before = torch.stack(states[:-1], 1).unflatten(2, by_group)
    earlier = torch.einsum("bcigs,bcgkes->bcigke", read, before).flatten(3, 4) * total.exp()[..., None]
    return (within + earlier).flatten(1, 2)[:, :length], states[-1]
