"""Gradient norms, and clipping by the norm of all gradients together."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Clips gradients to a global norm and gives the norm that they had."""
    present = [p for p in parameters if p.grad is not None]
    norm = grad_norm(present)
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(present, max_norm, norm, foreach=True)
    return norm


@torch.no_grad()
def grad_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all their gradients together (summed over shards); 0 where there are none."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    return norm.full_tensor() if isinstance(norm, torch.distributed.tensor.DTensor) else norm
