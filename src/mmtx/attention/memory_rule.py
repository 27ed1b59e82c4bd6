"""Who may listen to whom across two sets: the tokens of one ask, those of the other, its memory, are heard.

Axes as in `connectivity`. Token *i* may listen to token *j* of the memory <=>
``valid[j] and segment[i] == segment[j]``. A token that is left with nothing to hear (its sample has no memory) hears
nothing: attention gives it zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.attention.kernels import Call, Flex, Full, Partly, PerSegment, Rendering
from mmtx.attention.rule import Connectivity, grouped


@dataclass(frozen=True)
class Memory:
    """What a second stack made of its own set."""

    hidden: Float[Tensor, "B M D"]
    connectivity: Connectivity

    def select(self, index: Tensor) -> Memory:
        """Some rows, in any order, any number of times."""
        return Memory(self.hidden[index], self.connectivity.select(index))


@dataclass(frozen=True)
class Crossing:
    """The rule between two sets, as loops and as the cheapest equal rendering.

    Attributes:
        listening: the set whose tokens ask.
        heard: the memory.
    """

    listening: Connectivity
    heard: Connectivity

    def reference(self) -> Bool[Tensor, "B Q M"]:
        """The rule, token by token, as it is written. For tests."""
        rows = max(t.shape[0] for c in (self.listening, self.heard) for t in (c.segment, c.valid))
        asks = self.listening.query_segment.expand(rows, -1).tolist()
        segment, valid = self.heard.segment.expand(rows, -1).tolist(), self.heard.valid.expand(rows, -1).tolist()
        return torch.tensor(
            [
                [[valid[b][j] and own == segment[b][j] for j in range(len(self.heard))] for own in asks[b]]
                for b in range(rows)
            ]
        )

    def dense(self) -> Bool[Tensor, "#B #Q M"]:
        """The rule as one boolean tensor; True means "may listen"."""
        allowed = self.heard.valid[:, None, :]
        if self.listening.packed or self.heard.packed:
            allowed = allowed & (self.listening.query_segment[:, :, None] == self.heard.segment[:, None, :])
        return allowed

    def render(self) -> Rendering:
        """The cheapest rendering that equals the rule."""
        asking, hearing = self.listening.packing, self.heard.packing
        if (asking is None) != (hearing is None):
            raise ValueError("a packed set and one that is not cannot listen to each other")
        if asking is not None and hearing is not None:
            if self.listening.order.device.type == "cpu":
                asked, heard = (*asking.lengths, asking.padding, 0), (*hearing.lengths, 0, hearing.padding)
                return _per_segment(asked, heard)
            return self._flex()
        if not (self.heard.padded or self.heard.packed or self.listening.packed):
            return Full()
        return Partly(self.dense()[:, None])

    def _flex(self) -> Flex:
        from torch.nn.attention.flex_attention import create_block_mask

        asks, segment, valid = self.listening.query_segment, self.heard.segment, self.heard.valid

        @no_type_check  # FlexAttention counts the arguments, so nothing may be wrapped around this
        def rule(b, h, q_index, kv_index):  # h: the rule is the same for every head
            return valid[0, kv_index] & (asks[0, q_index] == segment[0, kv_index])

        device = str(asks.device)
        return Flex(create_block_mask(rule, 1, None, asks.shape[1], segment.shape[1], device=device))


def _per_segment(asked: tuple[int, ...], heard: tuple[int, ...]) -> PerSegment:
    """Each sample's tokens ask what the same sample has in the memory."""
    pairs = tuple(zip(asked, heard, strict=True))
    calls = []
    for samples in grouped(pairs):
        num_asked, num_heard = pairs[samples[0]]
        if num_asked:
            nobody = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
            calls.append(Call(samples, Full() if num_heard else Partly(nobody)))
    return PerSegment(asked, heard, tuple(calls))
