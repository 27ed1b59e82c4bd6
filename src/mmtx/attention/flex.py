"""FlexAttention: a rule as a block mask, for packed rows and windows on a GPU. Axes as in `kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.attention.block_plan import BLOCK, BlockPlan
from mmtx.attention.integers import Integers, allowed
from mmtx.attention.kernels import Bias, Keys, Queries, Sinks, whole

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True)
class Flex:
    """Attention under a block mask. It has no backward on a CPU and no dropout; a query without a key gives zero."""

    block_mask: BlockMask
    softcap: float | None = None

    @classmethod
    def of(cls, query: Integers, key: Integers, window: int | None = None, softcap: float | None = None) -> Flex:
        """The block mask of a rule, the same for every head, made from bounds of blocks and never from all pairs."""
        from torch.nn.attention.flex_attention import BlockMask

        plan = BlockPlan.of(query, key, window)
        some, whole = _listed(plan.some & ~plan.whole), _listed(plan.whole)
        lengths = query.order.shape[1], key.order.shape[1]
        mask_mod = _mask_mod(query, key, window)
        return cls(BlockMask.from_kv_blocks(*some, *whole, BLOCK, mask_mod, seq_lengths=lengths), softcap)

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
        if dropout:
            raise ValueError(f"attention dropout={dropout} cannot be expressed by FlexAttention; set it to 0")
        if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
            raise ValueError("FlexAttention has no backward on a CPU; use flex=false")
        bias = whole(bias)
        changes, gqa = bias is not None or self.softcap is not None, q.shape[1] != k.shape[1]
        score_mod = _score_mod(bias, self.softcap) if changes else None
        attention = _flex_attention(compiled=q.device.type != "cpu")
        how: dict[str, Any] = {"score_mod": score_mod, "block_mask": self.block_mask, "scale": scale, "enable_gqa": gqa}
        if sinks is None:
            return attention(q, k, v, **how)
        attended, others = attention(q, k, v, return_lse=True, **how)  # log of the sum over all keys but the sink
        return attended * (others - sinks[:, None]).sigmoid()[..., None].to(attended.dtype)


def _mask_mod(query: Integers, key: Integers, window: int | None) -> Callable[..., Tensor]:
    """The rule at a pair of places. Kernels ask for whole blocks, so that tensors have to be as long."""
    queries, keys = (
        side.padded(BLOCK).map(lambda part: part if part.dtype is torch.bool else part.int()) for side in (query, key)
    )

    @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
    def mask_mod(b, h, q_index, kv_index):  # h: the rule is the same for every head
        def at(index):
            return lambda part: part[b if part.shape[0] > 1 else 0, index]

        return allowed(queries.map(at(q_index)), keys.map(at(kv_index)), window)

    return mask_mod


def _listed(
    blocks: Bool[Tensor, "#B queries keys"],
) -> tuple[Int[Tensor, "#B 1 queries"], Int[Tensor, "#B 1 queries keys"]]:
    """How many blocks of keys each block of queries has, and which: those come first."""
    listed = blocks[:, None].int().argsort(dim=-1, descending=True, stable=True)
    return blocks[:, None].sum(-1, dtype=torch.int32), listed.int()


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    """Compiled, it skips blocks that are masked altogether; otherwise it computes all scores, which suits tests."""
    from torch.nn.attention.flex_attention import flex_attention

    attention: Callable[..., Any] = flex_attention
    return torch.compile(attention, dynamic=True) if compiled else attention


def _score_mod(bias: Float[Tensor, "#B H Q M"] | None, softcap: float | None) -> Callable[..., Tensor]:
    """Scores within ±softcap, then a bias."""

    @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
    def score_mod(score, b, h, q_index, kv_index):
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        return score if bias is None else score + bias[b if bias.shape[0] > 1 else 0, h, q_index, kv_index]

    return score_mod
