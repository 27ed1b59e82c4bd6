"""A memory of earlier keys and values, of which each query takes the nearest (Wu et al. 2022, arXiv 2203.08913).

Axes: B rows of the batch, S samples, N tokens of a row, n of the longest sample, H query heads, G key and value heads,
E width of a head.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.attention.kernels import Keys, Queries
from mmtx.errors import check_at_least
from mmtx.nn.layer_context import LayerContext

SCALE = 10.0
"""Initial factor of scores, which are cosines (Liu et al. 2022, arXiv 2111.09883)."""


class NeighbourMemory(nn.Module):
    """What a query finds among the keys of its sample that its window has left behind, mixed with what it attends to.

    Of those in the memory, a query attends to the `count` that are nearest by cosine, found exactly, and a learned
    gate b of each head mixes both: ``sigmoid(b) · memory + (1 - sigmoid(b)) · local``. A query before which the memory
    is empty has its local attention alone. Keys are not rotated: they are found by content, however far away. Nothing
    in the memory gets a gradient.

    Args:
        num_heads: query heads H.
        count: keys that a query attends to; None: to all there are.
        size: positions that are held before the window; what is older is forgotten.
    """

    roles = {"gate": "bias", "scale": "gain"}

    def __init__(self, num_heads: int, *, count: int | None, size: int) -> None:
        super().__init__()
        for key, value in (("count", count), ("size", size)):
            check_at_least(f"attention.neighbours.{key}", value, 1)
        self.count, self.size = count, size
        self.gate = nn.Parameter(torch.zeros(num_heads))
        self.scale = nn.Parameter(torch.full((num_heads,), SCALE))

    def forward(self, local: Queries, q: Queries, k: Keys, v: Keys, context: LayerContext) -> Queries:
        """Args:
        local: what every query attends to within its window.
        q: queries, not rotated.
        k: keys of the same tokens, not rotated.
        v: their values.
        context: of the layer, which has a window.
        """
        held = self._held(context)
        q, k, v = (_by_sample(heads, context) for heads in (q, k.detach(), v.detach()))
        k, v = (heads.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for heads in (k, v))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.scale[:, None, None]
        scores = scores.masked_fill(~held[:, None], torch.finfo(scores.dtype).min)
        found = _joined(self._weights(scores) @ v, context)
        has_any = context.joined(held.any(-1, keepdim=True).to(q.dtype).expand(len(q), -1, -1))
        share = self.gate.sigmoid()[:, None, None] * has_any[:, None]
        return torch.lerp(local, found, share.to(local.dtype))

    def _held(self, context: LayerContext) -> Bool[Tensor, "#S n n"]:
        """Which keys are in the memory of each query: real ones of its sample, which is in the order of time."""
        assert context.position is not None and context.window is not None
        packing, time = context.packing, context.position[..., 0]
        time, real = (time, context.valid) if packing is None else (packing.rows(time), packing.real)
        distance = time[:, :, None] - time[:, None]
        behind = torch.ones(time.shape[1], time.shape[1], dtype=torch.bool, device=time.device).tril(-1)
        return behind & real[:, None] & (distance >= context.window) & (distance < context.window + self.size)

    def _weights(self, scores: Float[Tensor, "S H n n"]) -> Float[Tensor, "S H n n"]:
        if self.count is None or self.count >= scores.shape[-1]:
            return scores.softmax(-1)
        nearest = scores.topk(self.count, dim=-1)
        return torch.zeros_like(scores).scatter(-1, nearest.indices, nearest.values.softmax(-1))


def _by_sample(heads: Float[Tensor, "B heads N E"], context: LayerContext) -> Float[Tensor, "S heads n E"]:
    """Every sample in a row of its own."""
    rows = context.samples(heads.transpose(1, 2).flatten(2))
    return rows.unflatten(2, (heads.shape[1], -1)).transpose(1, 2)


def _joined(heads: Float[Tensor, "S heads n E"], context: LayerContext) -> Float[Tensor, "B heads N E"]:
    """Undoes `_by_sample`."""
    rows = context.joined(heads.transpose(1, 2).flatten(2))
    return rows.unflatten(2, (heads.shape[1], -1)).transpose(1, 2)
