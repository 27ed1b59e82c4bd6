"""Attention whose scores are kept within a cap, as Gemma 2 has it. Axes as in `kernels`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.attention.kernels import Bias, Keys, Queries, Sinks, whole


@dataclass(frozen=True)
class SoftCapped:
    """A boolean mask, under scores s that are kept within ±cap: ``cap · tanh(s / cap)`` (Gemma 2, arXiv 2408.00118).
    A bias is added after that, and sinks are as they are. Kernels of torch cannot do it, so that all scores are held.
    """

    allowed: Bool[Tensor, "#B 1 #Q M"]
    cap: float

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        bias = whole(bias)
        if q.shape[1] != k.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
        scores = soft_capped(q @ k.transpose(-1, -2) * (q.shape[3] ** -0.5 if scale is None else scale), self.cap)
        scores = (scores if bias is None else scores + bias).masked_fill(~self.allowed, float("-inf"))
        if sinks is not None:  # the score of one more key, whose value is zero
            scores = torch.cat([sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1), scores], dim=-1)
        weights = scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(v.dtype)
        return F.dropout(weights if sinks is None else weights[..., 1:], dropout) @ v

    def padded(self, bias: Float[Tensor, "#B H Q N"]) -> Float[Tensor, "#B H Q M"]:
        """A bias of the tokens, for all that the mask has room for."""
        return F.pad(bias, (0, self.allowed.shape[3] - bias.shape[3]))


def soft_capped(scores: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """Scores kept within ±cap."""
    return cap * torch.tanh(scores / cap)
