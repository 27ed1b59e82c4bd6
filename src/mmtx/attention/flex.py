"""FlexAttention: a rule as a block mask, for long packed rows on a GPU. Axes as in `kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.attention.kernels import Bias, Keys, Queries, whole

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True)
class Flex:
    """Attention under a block mask. It has no backward on a CPU and no dropout; a query without a key gives zero."""

    block_mask: BlockMask

    @classmethod
    def of(cls, rule: Callable[..., Tensor], rows: int, num_queries: int, num_keys: int, device: torch.device) -> Flex:
        """The block mask of ``rule(b, h, q_index, kv_index)``, the same for every head."""
        from torch.nn.attention.flex_attention import create_block_mask

        return cls(create_block_mask(rule, rows, None, num_queries, num_keys, device=str(device)))

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        if dropout:
            raise ValueError(f"attention dropout={dropout} cannot be expressed by FlexAttention; set it to 0")
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise ValueError("FlexAttention has no backward on a CPU; use flex=false")
        bias = whole(bias)
        score_mod, gqa = None if bias is None else _add_bias(bias), q.shape[1] != k.shape[1]
        attention = _flex_attention(compiled=q.device.type != "cpu")
        return attention(q, k, v, score_mod=score_mod, block_mask=self.block_mask, scale=scale, enable_gqa=gqa)


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    """Compiled, it skips blocks that are masked altogether; otherwise it computes all scores, which suits tests."""
    from torch.nn.attention.flex_attention import flex_attention

    attention: Callable[..., Any] = flex_attention
    return torch.compile(attention, dynamic=True) if compiled else attention


def _add_bias(bias: Float[Tensor, "#B H Q M"]) -> Callable[..., Tensor]:
    @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
    def score_mod(score, b, h, q_index, kv_index):
        return score + bias[b if bias.shape[0] > 1 else 0, h, q_index, kv_index]

    return score_mod
