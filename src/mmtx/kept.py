"""A set of which some tokens are left out, as the encoder of a masked autoencoder has it.

A picture of six patches behind a summary, of which three are left out::

    whole     S  P0  P1  P2  P3  P4  P5
    columns   0   1           4       6
    kept      S  P0          P3      P5

Each keeps its place, order and positions. Nothing is computed on what is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.tokens import Span, TokenSet


@dataclass(frozen=True)
class Kept:
    """What is left of a set.

    Attributes:
        token_set: its tokens, in their order.
        columns: where each stands in the whole set.
        real: which of them are no padding.
    """

    token_set: TokenSet
    columns: Int[Tensor, "B m"]
    real: Bool[Tensor, "B m"]

    def spread(self, states: Float[Tensor, "B m D"], rest: Float[Tensor, " D"], num_tokens: int) -> Tensor:
        """Vectors of the whole set, ``(B, num_tokens, D)``: `states` of what was kept, `rest` everywhere else."""
        filled = torch.where(self.real[..., None], states, rest.to(states.dtype))
        whole = rest.to(states.dtype).expand(len(states), num_tokens, -1)
        return whole.scatter(1, self.columns[..., None].expand_as(filled), filled)


def keep(
    token_set: TokenSet, masked: Mapping[str, Bool[Tensor, "B n"]], most: Mapping[str, int], *, ragged: bool = False
) -> Kept:
    """The set without the content tokens that are masked.

    Args:
        token_set: before it is packed.
        masked: ``{name: (B, n)}``, which of its n content tokens are left out. Names that are not given stay whole.
        most: ``{name: m}``, content tokens that a sample keeps at most. So the host knows sizes, and waits for nothing
            but where the set is to be packed.
        ragged: a full sample may keep fewer; otherwise it keeps as many.
    """
    valid = token_set.connectivity.valid.expand(len(token_set.content), -1)
    columns: list[Tensor] = []
    real: list[Tensor] = []
    spans: dict[str, Span] = {}
    for name, span in token_set.spans.items():
        own, is_real = _columns(span, valid, masked.get(name), most.get(name, 0))
        start = sum(part.shape[1] for part in columns)
        spans[name] = replace(span, start=start, stop=start + own.shape[1])
        columns.append(own)
        real.append(is_real)
    chosen, there = torch.cat(columns, dim=1), torch.cat(real, dim=1)
    connectivity = token_set.connectivity.gathered(chosen, there)
    kept = replace(
        token_set,
        content=_gather(token_set.content, chosen),
        place=_gather(token_set.place, chosen),
        connectivity=replace(connectivity, padded=connectivity.padded or ragged),
        spans=spans,
        lengths=None if token_set.lengths is None else tuple(there.sum(1).tolist()),
        pairs=None if token_set.pairs is None else _of_chosen(token_set.pairs, chosen),
    )
    return Kept(kept, chosen, there)


def most_kept(kept: Bool[Tensor, "B n"]) -> int:
    """How many tokens a sample keeps at most, and one at least. Nothing waits for a GPU: there it is their number."""
    return max(1, int(kept.sum(1).max())) if kept.device.type == "cpu" else kept.shape[1]


def _columns(
    span: Span, valid: Bool[Tensor, "B N"], masked: Bool[Tensor, "B n"] | None, most: int
) -> tuple[Int[Tensor, "B k"], Bool[Tensor, "B k"]]:
    """Where the tokens of a name stand that stay, and which of them are real."""
    whole = torch.arange(span.start, span.stop, device=valid.device).expand(len(valid), -1)
    if masked is None:
        return whole, valid[:, span.start : span.stop]
    num_prefix = span.content_start - span.start
    left_out = masked | ~valid[:, span.content_start : span.stop]
    first = left_out.byte().argsort(dim=1, stable=True)[:, :most]
    columns = torch.cat([whole[:, :num_prefix], span.content_start + first], dim=1)
    real = torch.cat([valid[:, span.start : span.content_start], ~left_out.gather(1, first)], dim=1)
    return columns, real


def _of_chosen(pairs: Float[Tensor, "B N N"], columns: Int[Tensor, "B m"]) -> Float[Tensor, "B m m"]:
    rows = torch.arange(len(columns), device=columns.device)[:, None, None]
    return pairs.expand(len(columns), -1, -1)[rows, columns[:, :, None], columns[:, None]]


def _gather(values: Float[Tensor, "#B N D"], columns: Int[Tensor, "B m"]) -> Float[Tensor, "B m D"]:
    index = columns[..., None].expand(-1, -1, values.shape[2])
    return values.expand(len(columns), -1, -1).gather(1, index)
