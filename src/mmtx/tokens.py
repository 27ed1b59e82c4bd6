"""Tokens of one modality, the set they are joined into, and the way back.

Axes: B samples, n tokens of one modality, N tokens of the set, D width, A coordinates of a modality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.attention.rule import Connectivity, Packing, Shape

MAX_COORDINATES = 2
"""A modality has at most a row and a column of its own; the third coordinate is time, which its clock gives."""


@dataclass(frozen=True)
class Clock:
    """How the modalities on one clock share its time.

    Args:
        mutual: items of equal time hear each other (several sensors of one moment). Otherwise ties are broken by
            the place in the set (return before state before action).
        embedding: ``embedding(extent, dim)`` makes an embedding of the time that all modalities on the clock share
            (Chen et al. 2021, arXiv 2106.01345); None: their own positions tell.
    """

    mutual: bool = False
    embedding: Callable[[tuple[int, ...], int], nn.Module] | None = None


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer makes of one modality: content, and where it sits. Real tokens come first in every row.

    Attributes:
        content: one vector per token.
        coordinates: the modality's own axes (row, column), or none.
        time: index of the item that the token belongs to, on the modality's clock.
        lengths: real tokens of each sample.
        num_items: items of a sample that has all n tokens: 1 for a picture, n for causal text.
        full: known on the host: every sample has all n tokens.
        num_summaries: leading tokens that are there to be read out as a summary (CLS).
        num_registers: tokens after those that are scratch space and are never read.
        foreseen: `lengths` are what ``Tokenizer.num_tokens`` says. Chance may decide otherwise (speed perturbation of
            sound); the host then has to wait for the device where it needs to know.
    """

    content: Float[Tensor, "B n D"]
    coordinates: Int[Tensor, "n A"]
    time: Int[Tensor, "#B n"]
    lengths: Int[Tensor, " B"]
    num_items: int
    full: bool
    num_summaries: int = 0
    num_registers: int = 0
    foreseen: bool = True

    @property
    def num_readouts(self) -> int:
        return self.num_summaries + self.num_registers


@dataclass(frozen=True)
class Span:
    """Where one modality's tokens stand in the rows of the set."""

    start: int
    stop: int
    num_summaries: int
    num_registers: int

    @property
    def content_start(self) -> int:
        return self.start + self.num_summaries + self.num_registers


@dataclass(frozen=True)
class TokenSet:
    """All tokens of a batch, side by side.

    Attributes:
        content: what each token says.
        place: what tells the backbone kind and position; apart from `content`, so that content can be masked,
            noised or replaced while the token keeps its place.
        connectivity: who may listen to whom.
        spans: for each name, its tokens within a sample.
        lengths: real tokens of each sample, on the host; given where they are to be packed, see `pack`.
        memory: the set that an encoder hears first, for the tokens of this one to listen to.
    """

    content: Float[Tensor, "R N D"]
    place: Float[Tensor, "#R N D"]
    connectivity: Connectivity
    spans: Mapping[str, Span]
    lengths: tuple[int, ...] | None = None
    memory: TokenSet | None = None

    def with_content(self, content: Float[Tensor, "R N D"]) -> TokenSet:
        """The same places with other content."""
        return replace(self, content=content)


@dataclass(frozen=True)
class HiddenStates:
    """What the backbone made of a set, one row per sample again.

    Attributes:
        hidden: one vector per token, in the order of the set; zero where there is no token.
        valid: which tokens are real.
        spans: for each name, its tokens.
        memory: what the encoder made of the names that were sent through it.
    """

    hidden: Float[Tensor, "B N D"]
    valid: Bool[Tensor, "#B N"]
    spans: Mapping[str, Span]
    memory: HiddenStates | None = None

    def tokens(self, name: str) -> Float[Tensor, "B n D"]:
        """Hidden states of one name's own tokens, read-outs left out."""
        if name not in self.spans and self.memory is not None:
            return self.memory.tokens(name)
        span = self.spans[name]
        return self.hidden[:, span.content_start : span.stop]

    def lengths(self, name: str) -> Int[Tensor, " B"]:
        """How many of one name's own tokens are real; they come first."""
        if name not in self.spans and self.memory is not None:
            return self.memory.lengths(name)
        span = self.spans[name]
        real = self.valid[:, span.content_start : span.stop].sum(1)
        return real.expand(self.hidden.shape[0])

    def summaries(self, name: str) -> Float[Tensor, "B s D"]:
        """Hidden states of one name's summary tokens."""
        if name not in self.spans and self.memory is not None:
            return self.memory.summaries(name)
        span = self.spans[name]
        return self.hidden[:, span.start : span.start + span.num_summaries]

    def content_mask(self) -> Bool[Tensor, "#B N"]:
        """Real tokens that are nobody's read-out."""
        mask = self.valid.clone()
        for span in self.spans.values():
            mask[:, span.start : span.content_start] = False
        return mask


def join(
    groups: Mapping[str, Tokens],
    place: Mapping[str, Float[Tensor, "#B n D"]],
    clock_of: Mapping[str, str],
    clocks: Mapping[str, Clock] | None = None,
    memory: TokenSet | None = None,
    lengths: tuple[int, ...] | None = None,
) -> TokenSet:
    """Lays the modalities of each sample side by side and derives who may listen to whom.

    Modalities on one clock share its time; different clocks are laid end to end in the order of the set, each
    beginning after the last item that *this sample* has on the clocks before, so padding never moves a position.
    Tokens stand name after name; their order in time is in `order`, not in where they stand.

    Args:
        groups: ``{name: Tokens}`` in the order of the set.
        place: ``{name: embedding}`` of kind and position, added to the content by the backbone.
        clock_of: ``{name: clock}``.
        clocks: how ties on a clock are resolved; by the place in the set where a clock is not listed.
        memory: the set that these tokens will listen to besides.
        lengths: real tokens of each sample, on the host, where they are to be packed.
    """
    clocks = clocks or {}
    order, position = _order_and_position(groups, clock_of, clocks)
    full = all(tokens.full for tokens in groups.values())
    valid = [_valid(tokens) for tokens in groups.values()]
    connectivity = Connectivity(
        order=_side_by_side(order),
        position=_side_by_side(position),
        segment=torch.zeros_like(_side_by_side(order)[:1]),
        valid=_side_by_side(valid),
        shape=_shape(groups, clock_of, clocks),
        padded=not full,
        packed=False,
    )
    return TokenSet(
        content=_side_by_side([tokens.content for tokens in groups.values()]),
        place=_side_by_side([place[name] for name in groups]),
        connectivity=connectivity,
        spans=_spans(groups),
        lengths=lengths,
        memory=memory,
    )


def split(
    hidden: Float[Tensor, "R N D"],
    connectivity: Connectivity,
    spans: Mapping[str, Span],
    memory: HiddenStates | None = None,
) -> HiddenStates:
    """Undoes packing, so that each sample has its own row and each name its own columns."""
    if connectivity.packing is not None:
        return HiddenStates(connectivity.packing.unpack(hidden), connectivity.packing.real, spans, memory)
    if connectivity.padded:
        hidden = hidden.masked_fill(~connectivity.valid[..., None], 0.0)
    return HiddenStates(hidden, connectivity.valid, spans, memory)


def pack(token_set: TokenSet) -> TokenSet:
    """Moves the real tokens of all samples into one row, so that nothing is computed on padding.

    A set whose lengths the host does not know stays as it is: nothing waits for the device.
    """
    if token_set.lengths is None:
        return token_set
    c, count, width = token_set.connectivity, *token_set.content.shape[:2]
    num_tokens = max(sum(token_set.lengths), 1)
    real = c.valid.expand(count, -1)
    flat = real.flatten()
    place = torch.where(flat, flat.cumsum(0) - 1, num_tokens)  # what is not real goes after the last, to be cut off
    every = torch.arange(len(flat), device=flat.device)
    index = every.new_zeros(num_tokens + 1).scatter_(0, place, every)[:num_tokens]

    def move(values: Tensor) -> Tensor:
        own = index if values.shape[0] == count else index % width
        return values.flatten(0, 1).index_select(0, own)[None]

    connectivity = Connectivity(
        order=move(c.order),
        position=move(c.position),
        segment=(index // width if any(token_set.lengths) else torch.full_like(index, -1))[None],  # -1: of nobody
        valid=move(real),
        shape=c.shape,
        padded=not any(token_set.lengths),
        packing=Packing(token_set.lengths, index, real),
    )
    return TokenSet(move(token_set.content), move(token_set.place), connectivity, token_set.spans)


def _order_and_position(
    groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]
) -> tuple[list[Tensor], list[Tensor]]:
    """Order and (time, row, column) of every group, each ``(1 or B, n)`` and ``(1 or B, n, 3)``."""
    begin: dict[str, Tensor | int] = {}
    elapsed: Tensor | int = 0
    for clock in dict.fromkeys(clock_of[name] for name in groups):
        begin[clock] = elapsed
        elapsed = elapsed + _num_items([groups[name] for name in groups if clock_of[name] == clock])
    orders, positions = [], []
    for rank, (name, tokens) in enumerate(groups.items()):
        start = begin[clock_of[name]]
        time = tokens.time + (start[:, None] if isinstance(start, Tensor) else start)
        mutual = clocks.get(clock_of[name], Clock()).mutual
        orders.append(time * len(groups) + (0 if mutual else rank))
        own = tokens.coordinates.new_zeros(tokens.coordinates.shape[0], MAX_COORDINATES)
        own[:, : tokens.coordinates.shape[1]] = tokens.coordinates
        positions.append(torch.cat([time[..., None], own[None].expand(time.shape[0], -1, -1)], dim=-1))
    return orders, positions


def _num_items(on_clock: list[Tokens]) -> Tensor | int:
    """Items that each sample has on one clock; a plain integer where all samples agree."""
    if all(tokens.full and tokens.time.shape[0] < tokens.lengths.shape[0] for tokens in on_clock):  # times are counted
        return max(tokens.num_items for tokens in on_clock)
    counts = []
    for tokens in on_clock:
        reached = torch.where(_valid(tokens), tokens.time + 1, 0)
        counts.append(reached.amax(1).expand(tokens.lengths.shape[0]))
    return torch.stack(counts).amax(0)


def _valid(tokens: Tokens) -> Bool[Tensor, "#B n"]:
    index = torch.arange(tokens.content.shape[1], device=tokens.lengths.device)
    if tokens.full:
        return torch.ones_like(index, dtype=torch.bool)[None]
    return index[None] < tokens.lengths[:, None]


def _shape(groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]) -> Shape:
    one_clock = len({clock_of[name] for name in groups}) == 1
    together = len(groups) == 1 or clocks.get(next(iter(clock_of.values())), Clock()).mutual
    if one_clock and together and all(tokens.num_items == 1 for tokens in groups.values()):
        return Shape.FULL
    if len(groups) == 1 and all(tokens.num_items == tokens.content.shape[1] for tokens in groups.values()):
        return Shape.CAUSAL
    return Shape.MIXED


def _spans(groups: Mapping[str, Tokens]) -> dict[str, Span]:
    spans, start = {}, 0
    for name, tokens in groups.items():
        stop = start + tokens.content.shape[1]
        spans[name] = Span(start, stop, tokens.num_summaries, tokens.num_registers)
        start = stop
    return spans


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Concatenates along tokens; keeps a batch axis of 1 where all parts agree on it."""
    if len(parts) == 1:
        return parts[0]
    rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(rows, *part.shape[1:]) for part in parts], dim=1)
