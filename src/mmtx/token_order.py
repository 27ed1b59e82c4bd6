"""Laying out the tokens of a batch by clocks: order and position of each, which the rule of attention reads.

Axes as in `tokens`.

Modalities on one clock share its time; ``order = time * number of names + rank of the name``, and the rank is 0
for all where the clock is mutual. Two steps of return, state and action on one clock are interleaved, R0 S0 A0 R1
S1 A1, though they stand name after name::

    token    R0  R1  S0  S1  A0  A1
    time      0   1   0   1   0   1
    order     0   3   1   4   2   5

A stack that reads tokens one after the other gets them `by_time`, see `TimeOrder`; spans stay as they are::

    laid     R0  S0  A0  R1  S1  A1

Different clocks are laid end to end, each beginning after the last item that *this sample* has on the clocks
before it, so padding never moves a position. An image of two patches, then its caption::

    token    I0  I1  T0  T1  T2
    time      0   0   1   2   3
    order     0   0   3   5   7

A sample of the same batch that lacks the image::

    token     .   .  T0  T1  T2
    time      .   .   0   1   2
    order     .   .   1   3   5

A name may stand in the set more than once, see `Copy`. A text of four ids in blocks of two, first noisy (N) and
private, then clean (C), so that a noisy block attends to itself and to the clean blocks before it, and a clean one
to clean ones alone::

    token    N0  N1  N2  N3  C0  C1  C2  C3
    time      0   0   1   1   0   0   1   1
    order     0   0   2   2   1   1   3   3
    private   1   1   1   1   0   0   0   0

Where positions read it, tokens also have an index, which counts tokens as time counts items. Of that text it is::

    tokens   N0  N1  N2  N3  C0  C1  C2  C3
    index     0   1   2   3   0   1   2   3

and of the image and its caption::

    tokens   I0  I1  T0  T1  T2
    index     0   1   2   3   4
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.attention.rule import Connectivity, Pattern
from mmtx.attention.time_order import pays_by_time
from mmtx.tokens import Clock, Span, Tokens, TokenSet

POSITIONS = 3
"""Time, row and column. A modality has at most a row and a column of its own, and its clock gives the time; one that is
laid out as one item, such as a film that attends to all of itself, may have a time of its own within it."""


def join(
    groups: Mapping[str, Tokens],
    place: Mapping[str, Float[Tensor, "#B n D"]],
    clock_of: Mapping[str, str],
    clocks: Mapping[str, Clock] | None = None,
    memory: TokenSet | None = None,
    lengths: tuple[int, ...] | None = None,
    by_time: bool = False,
    indexed: bool = False,
) -> TokenSet:
    """Joins the modalities of each sample, name after name, and derives which tokens attend to which, as drawn above.

    Args:
        groups: ``{name: Tokens}`` in the order of the set; a copy of a name goes by its key.
        place: ``{name: type and position embeddings}``.
        clock_of: ``{name: clock}``.
        clocks: whether a clock is mutual; one that is not listed is not.
        memory: the encoder's set, for cross-attention.
        lengths: real tokens of each sample, on the host, where they are to be packed.
        by_time: `pack` lays the tokens of each sample in the order of time. It does so too where that makes a long set
            causal, which needs no mask.
        indexed: tokens have an index.
    """
    clocks = clocks or {}
    order, position = _order_and_position(groups, clock_of, clocks)
    joined_order, pattern = _side_by_side(order), _pattern(groups, clock_of, clocks)
    in_time = _pattern_in_time(pattern, groups, clock_of, clocks)
    connectivity = Connectivity(
        order=joined_order,
        position=_side_by_side(position),
        segment=torch.zeros_like(joined_order[:1]),
        valid=_side_by_side([_valid(tokens) for tokens in groups.values()]),
        pattern=pattern,
        padded=not all(tokens.full for tokens in groups.values()),
        packed=False,
        private=_private(groups),
        consecutive=len(groups) == 1 and all(tokens.consecutive and not tokens.timed for tokens in groups.values()),
        index=_side_by_side(_times(_items_of_one_token(groups), clock_of)) if indexed else None,
    )
    return TokenSet(
        content=_side_by_side([tokens.content for tokens in groups.values()]),
        place=_side_by_side([place[name] for name in groups]),
        connectivity=connectivity,
        spans=_spans(groups),
        lengths=lengths,
        memory=memory,
        in_time=in_time if by_time or (pays_by_time(joined_order) and in_time is Pattern.CAUSAL) else None,
        pairs=_pairs(groups),
    )


def shared_order(groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]) -> str | None:
    """Which tokens of a sample may share an order or be private, and what to change; None: the host knows of none."""
    for name, tokens in groups.items():
        on_clock = [other for other in groups if clock_of[other] == clock_of[name]]
        if tokens.timed or tokens.private:
            return f"those of '{name}' are private, or share times that an objective gives; take another objective"
        if tokens.num_items != tokens.content.shape[1]:
            change = f"set modality.{name}.causal=true if it is a text, or leave it out of modality"
            return f"those of '{name}' share an order; {change}"
        if len(on_clock) > 1 and clocks.get(clock_of[name], Clock()).mutual:
            return f"those of {', '.join(on_clock)} share an order; set clocks.{clock_of[name]}.mutual=false"
    return None


def several_orders(
    groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]
) -> str | None:
    """Which tokens of a sample may differ in order, and what to change; None: all attend to each other."""
    if _pattern(groups, clock_of, clocks) is Pattern.FULL:
        return None
    for name, tokens in groups.items():
        if tokens.timed or tokens.num_items > 1:
            change = f"set modality.{name}.causal=false if it is a text, or leave it out of that stack"
            return f"those of '{name}' differ in order; {change}"
    return f"those of {', '.join(groups)} differ in order; give them one clock that is mutual, or a stack each"


def _order_and_position(
    groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]
) -> tuple[list[Tensor], list[Tensor]]:
    """Order and (time, row, column) of every group, each ``(1 or B, n)`` and ``(1 or B, n, 3)``."""
    orders, positions, times = [], [], _times(groups, clock_of)
    for rank, (time, (name, tokens)) in enumerate(zip(times, groups.items(), strict=True)):
        mutual = clocks.get(clock_of[name], Clock()).mutual
        orders.append(time * len(groups) + (0 if mutual else rank))
        positions.append(_within(tokens) + torch.stack([time, *[torch.zeros_like(time)] * (POSITIONS - 1)], dim=-1))
    return orders, positions


def _within(tokens: Tokens) -> Int[Tensor, "n 3"]:
    """(time, row, column) of each token within its item."""
    count, axes = tokens.coordinates.shape
    grid, first = tokens.coordinates.new_zeros(count, POSITIONS), int(axes < POSITIONS)
    grid[:, first : first + axes] = tokens.coordinates
    return grid


def _times(groups: Mapping[str, Tokens], clock_of: Mapping[str, str]) -> list[Int[Tensor, "#B n"]]:
    """The times of every group, each clock beginning after the last item of those before it."""
    begin: dict[str, Tensor | int] = {}
    elapsed: Tensor | int = 0
    for clock in dict.fromkeys(clock_of[name] for name in groups):
        begin[clock] = elapsed[:, None] if isinstance(elapsed, Tensor) else elapsed
        elapsed = elapsed + _num_items([groups[name] for name in groups if clock_of[name] == clock])
    return [tokens.time + begin[clock_of[name]] for name, tokens in groups.items()]


def _items_of_one_token(groups: Mapping[str, Tokens]) -> dict[str, Tokens]:
    """The groups as if each of their tokens were an item."""
    alone = {}
    for name, tokens in groups.items():
        count = tokens.content.shape[1]
        time = torch.arange(count, device=tokens.lengths.device)[None]
        alone[name] = replace(tokens, time=time, num_items=count, timed=False)
    return alone


def _num_items(on_clock: list[Tokens]) -> Tensor | int:
    """Items that each sample has on one clock; a plain integer where all samples agree."""
    if all(_is_counted(tokens) for tokens in on_clock):
        return max(tokens.num_items for tokens in on_clock)
    counts = []
    for tokens in on_clock:
        reached = torch.where(_valid(tokens), tokens.time + _within(tokens)[:, 0] + 1, 0)
        counts.append(reached.amax(1).expand(tokens.lengths.shape[0]))
    return torch.stack(counts).amax(0)


def _is_counted(tokens: Tokens) -> bool:
    """Whether every sample reaches the time of `num_items`, which the host knows."""
    has_own_time = tokens.coordinates.shape[1] == POSITIONS
    return tokens.full and not tokens.timed and not has_own_time and tokens.time.shape[0] < tokens.lengths.shape[0]


def _valid(tokens: Tokens) -> Bool[Tensor, "#B n"]:
    index = torch.arange(tokens.content.shape[1], device=tokens.lengths.device)
    if tokens.full:
        return torch.ones_like(index, dtype=torch.bool)[None]
    return index[None] < tokens.lengths[:, None]


def _private(groups: Mapping[str, Tokens]) -> Bool[Tensor, "1 N"] | None:
    """Which tokens are private; None where none is, which the host knows."""
    if not any(tokens.private for tokens in groups.values()):
        return None
    return torch.cat([torch.full_like(t.time[:1], t.private, dtype=torch.bool) for t in groups.values()], dim=1)


def _pattern(groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]) -> Pattern:
    if any(tokens.timed for tokens in groups.values()):
        return Pattern.MIXED
    one_clock = len({clock_of[name] for name in groups}) == 1
    together = len(groups) == 1 or clocks.get(next(iter(clock_of.values())), Clock()).mutual
    if one_clock and together and all(tokens.num_items == 1 for tokens in groups.values()):
        return Pattern.FULL
    if len(groups) == 1 and shared_order(groups, clock_of, clocks) is None:
        return Pattern.CAUSAL
    return Pattern.MIXED


def _pattern_in_time(
    pattern: Pattern, groups: Mapping[str, Tokens], clock_of: Mapping[str, str], clocks: Mapping[str, Clock]
) -> Pattern | None:
    """The pattern once the tokens are laid in the order of time; None: they stand so already."""
    if pattern is Pattern.CAUSAL:
        return None
    return Pattern.CAUSAL if shared_order(groups, clock_of, clocks) is None else pattern


def _spans(groups: Mapping[str, Tokens]) -> dict[str, Span]:
    spans, start = {}, 0
    for name, tokens in groups.items():
        stop = start + tokens.content.shape[1]
        spans[name] = Span(start, stop, tokens.num_summaries, tokens.num_registers)
        start = stop
    return spans


def _pairs(groups: Mapping[str, Tokens]) -> Float[Tensor, "B N N"] | None:
    """The pairs of each name as a block on the diagonal."""
    if all(tokens.pairs is None for tokens in groups.values()):
        return None
    parts, behind = [], sum(tokens.content.shape[1] for tokens in groups.values())
    before = 0
    for tokens in groups.values():
        count = tokens.content.shape[1]
        own = tokens.content.new_zeros(len(tokens.content), count, count) if tokens.pairs is None else tokens.pairs
        behind -= count
        parts.append(F.pad(own, (before, behind)))
        before += count
    return torch.cat(parts, dim=1)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Concatenates along tokens; keeps a batch axis of 1 where all parts agree on it."""
    if len(parts) == 1:
        return parts[0]
    rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(rows, *part.shape[1:]) for part in parts], dim=1)
