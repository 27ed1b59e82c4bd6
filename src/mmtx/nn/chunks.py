"""Tokens in chunks, within which a recurrence is computed as scores of pairs. Axes: c chunks of L tokens, H heads."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor


def in_chunks(values: Shaped[Tensor, "b n *A"], chunk_size: int) -> Shaped[Tensor, "b c L *A"]:
    """The tokens, of axis 1, in chunks; the last is filled up with zeros, which keep a state and add nothing."""
    filled = values.shape[1] + -values.shape[1] % chunk_size
    values = F.pad(values, (*[0] * (2 * values.dim() - 4), 0, filled - values.shape[1]))
    return values.unflatten(1, (-1, chunk_size))


def log_kept(keep: Float[Tensor, "b c L H"]) -> Float[Tensor, "b c L L H"]:
    """The logarithm of what a token i of a chunk still has of token j; minus infinity where j comes later."""
    total, length = keep.cumsum(2), keep.shape[2]
    later = torch.ones(length, length, dtype=torch.bool, device=keep.device).triu(1)
    return (total[:, :, :, None] - total[:, :, None]).masked_fill(later[..., None], -torch.inf)
