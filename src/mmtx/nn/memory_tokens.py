"""Memory tokens, which a stack carries from one segment of a text to the next (Bulatov et al. 2022, arXiv 2207.06881).

Axes: B samples, n tokens of the longest one, M memory tokens, D width.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.attention.packing import Packing
from mmtx.attention.rule import Connectivity
from mmtx.errors import check_at_least

Stack = Callable[[Float[Tensor, "B N D"], Connectivity], Float[Tensor, "B N D"]]
"""From tokens and who attends to whom to hidden states."""

SHUT = -5.0
"""Added to what a gate computes: a new one lets 0.7% through, so that memory stays where nothing else is learnt."""


class MemoryTokens(nn.Module):
    """Cuts each sample into segments in the order of time, and computes one after the other, between tokens of memory.

    Five tokens in segments of two, with one memory token, read (R) before a segment and written (W) behind it::

        R0 a b W0  ->  R1 c d W1  ->  R2 e W2

    Nothing else goes from a segment to the next: what the stack computes at W0 is the content of R1 and W1. Before the
    first segment of a sample it is zero, so that samples stay apart. Read and written ones have a learned vector each,
    added to the content. All tokens of a segment are in the order of time, memory as well: it is read by all, and what
    is written has attended to all. Positions count on: those of memory are next to those of its segment. So a text of
    any length is one of the trained length to the stack, if it has no absolute positions.

    Args:
        dim: width D.
        num_tokens: memory tokens M; 0: segments know nothing of each other.
        segment: tokens of a segment.
        gradient_segments: gradients go through so many segments: what is carried from one group of them to the next is
            detached; None: through all.
        gated: what is computed at W is mixed into what was read, feature by feature, by a gate that it computes; a
            segment in which the gate is shut leaves its memory as it is. Otherwise it takes its place.
    """

    roles = {"read": "token", "write": "token", "gate.weight": "matrix"}

    def __init__(
        self,
        dim: int,
        *,
        num_tokens: int,
        segment: int,
        gradient_segments: int | None,
        gated: bool = False,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__()
        for key, value, least in (("num_tokens", num_tokens, 0), ("segment", segment, 1)):
            check_at_least(f"memory_tokens.{key}", value, least)
        check_at_least("memory_tokens.gradient_segments", gradient_segments, 1)
        self.num_tokens, self.segment, self.gradient_segments = num_tokens, segment, gradient_segments
        if num_tokens:
            self.read, self.write = (nn.Parameter(0.02 * torch.randn(num_tokens, dim)) for _ in range(2))
        self.gate = nn.Linear(dim, dim) if gated and num_tokens else None

    def forward(self, stack: Stack, x: Float[Tensor, "B N D"], connectivity: Connectivity) -> Float[Tensor, "B N D"]:
        """Hidden states of the tokens, without those of memory.

        Args:
            stack: is called with one segment of all samples.
            x: tokens, those of a sample in the order of time, what is not real last.
            connectivity: of them; no two of a sample share an order.
        """
        packing = connectivity.packing
        if packing is not None:
            x, connectivity = packing.unpack(x), _in_rows(connectivity, packing)
        hidden, memory = [], x.new_zeros(len(x), self.num_tokens, x.shape[2])
        for number, (tokens, part) in enumerate(self._segments(x, connectivity)):
            if self.gradient_segments is not None and number % self.gradient_segments == 0:
                memory = memory.detach()
            computed = stack(self._between(memory, tokens), _with_memory(part, self.num_tokens))
            own = computed[:, self.num_tokens : self.num_tokens + tokens.shape[1]]
            hidden.append(own)
            memory = self._next(memory, computed[:, self.num_tokens + tokens.shape[1] :])
        whole = torch.cat(hidden, dim=1)
        return whole if packing is None else packing.pack(whole)

    def _segments(
        self, x: Float[Tensor, "B n D"], connectivity: Connectivity
    ) -> Iterator[tuple[Float[Tensor, "B m D"], Connectivity]]:
        for start in range(0, x.shape[1], self.segment):
            columns = torch.arange(start, min(start + self.segment, x.shape[1]), device=x.device)
            yield x[:, columns], replace(connectivity.arranged(columns), pattern=connectivity.pattern)

    def _next(self, memory: Float[Tensor, "B M D"], written: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        return written if self.gate is None else torch.lerp(memory, written, (self.gate(written) + SHUT).sigmoid())

    def _between(self, memory: Float[Tensor, "B M D"], tokens: Float[Tensor, "B m D"]) -> Float[Tensor, "B MmM D"]:
        if not self.num_tokens:
            return tokens
        return torch.cat([memory + self.read, tokens, memory + self.write], dim=1)


def _in_rows(connectivity: Connectivity, packing: Packing) -> Connectivity:
    """Of packed tokens, each sample in a row of its own again."""
    rows = packing.rows
    return Connectivity(
        order=rows(connectivity.order),
        position=rows(connectivity.position),
        segment=connectivity.segment.new_zeros(1, packing.real.shape[1]),
        valid=packing.real,
        pattern=connectivity.pattern,
        padded=True,
        packed=False,
        consecutive=connectivity.consecutive,
        index=None if connectivity.index is None else rows(connectivity.index),
    )


def _with_memory(connectivity: Connectivity, count: int) -> Connectivity:
    """Of the tokens of a segment between memory tokens, which take the next places in time on either side. Those read
    are real where the sample has a token in the segment, and those written where its segment is full."""
    if not count:
        return connectivity
    valid, index = connectivity.valid, connectivity.index
    time = torch.tensor([1, 0, 0], device=valid.device)
    read, written = (valid[:, column, None].expand(-1, count) for column in (0, -1))
    return replace(
        connectivity,
        order=_around(connectivity.order, count),
        position=_around(connectivity.position, count, time),
        segment=connectivity.segment.new_zeros(1, valid.shape[1] + 2 * count),
        valid=torch.cat([read, valid, written], dim=1),
        index=None if index is None else _around(index, count),
    )


def _around(values: Int[Tensor, "B m *A"], count: int, step: Int[Tensor, " 3"] | int = 1) -> Int[Tensor, "B MmM *A"]:
    """Values of tokens, between those of `count` tokens before the first, and as many behind the last."""
    places = torch.arange(count, device=values.device)
    places = places.view(1, -1, *[1] * (values.dim() - 2))
    return torch.cat([values[:, :1] - (count - places) * step, values, values[:, -1:] + (places + 1) * step], dim=1)
