"""Tokens of one modality, the set they are joined into, and packing and splitting of a set. `token_order.join` joins.

Axes: B samples, R rows (samples, or 1 where they are packed), n tokens of one modality, N tokens of the set, D width,
A coordinates of a modality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.attention.packing import Packing
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.attention.time_order import TimeOrder
from mmtx.conditions import Conditions


@dataclass(frozen=True)
class Clock:
    """How the modalities on one clock share its time.

    Args:
        mutual: items of equal time attend to each other (several sensors of one moment). Otherwise ties are broken by
            the order of names in the set (return before state before action).
        embedding: ``embedding(extent, dim)`` makes an embedding of the time that all modalities on the clock share
            (Chen et al. 2021, arXiv 2106.01345); None: none.
    """

    mutual: bool = False
    embedding: Callable[[tuple[int, ...], int], nn.Module] | None = None


@dataclass(frozen=True)
class Tokens:
    """The tokens of one modality: content and coordinates. Real tokens come first in every row.

    Attributes:
        content: one vector per token.
        coordinates: the modality's own axes (row, column), or none.
        time: index of the item that the token belongs to, on the modality's clock.
        lengths: real tokens of each sample.
        num_items: items of a sample that has all n tokens: 1 for a picture, n for causal text.
        full: known on the host: every sample has all n tokens.
        num_summaries: leading tokens that summarise the modality (CLS).
        num_registers: scratch tokens after those, whose outputs are ignored.
        foreseen: `lengths` are those of ``Tokenizer.num_tokens``. Otherwise they are random (speed perturbation of
            sound), and the host has to wait for the device where it needs them.
        private: only tokens of the same order attend to them.
        timed: `time` is an objective's (see `Copy`), and `num_items` says nothing of it.
        consecutive: tokens are as far apart in time or on an axis of their own, where they are farthest, as in the row.
        pairs: a number of every two tokens, such as whether two residues touch, which a mixer may read; None: none.
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
    private: bool = False
    timed: bool = False
    consecutive: bool = False
    pairs: Float[Tensor, "B n n"] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        """Learned tokens in front of the content."""
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
        content: of each token; can be masked, noised or replaced while the token keeps its place.
        place: its type and position embeddings, added to the content by the backbone's caller.
        connectivity: which tokens attend to which.
        spans: for each name, its tokens within a sample.
        lengths: real tokens of each sample, on the host; given where they are to be packed, see `pack`.
        memory: the encoder's set, which the tokens of this one attend to by cross-attention.
        in_time: the pattern of the tokens once `pack` has laid them in the order of time; None: they stay as they are.
        conditions: of adaptive norms; None: all tokens have the zero vector.
        pairs: a number of every two tokens, 0 where they are of different names; None: no name has any. Packed rows
            have none, and what reads them is refused there.
    """

    content: Float[Tensor, "R N D"]
    place: Float[Tensor, "#R N D"]
    connectivity: Connectivity
    spans: Mapping[str, Span]
    lengths: tuple[int, ...] | None = None
    memory: TokenSet | None = None
    in_time: Pattern | None = None
    conditions: Conditions | None = None
    pairs: Float[Tensor, "R N N"] | None = None

    def with_content(self, content: Float[Tensor, "R N D"]) -> TokenSet:
        """The same places with other content."""
        return replace(self, content=content)

    def conditioned(self, vectors: Float[Tensor, "R D"], keys: Iterable[str]) -> TokenSet:
        """The same set, in which the tokens of these names, or copies, have a vector of their sample; the others have
        the zero vector."""
        rows = torch.arange(len(vectors), device=vectors.device)[:, None]
        return self.conditioned_by_token(vectors, dict.fromkeys(keys, rows))

    def conditioned_by_token(
        self, vectors: Float[Tensor, "C D"], of_tokens: Mapping[str, Int[Tensor, "R _"]]
    ) -> TokenSet:
        """The same set, in which each token of some names, or copies, has the vector of this number; the others
        have the zero vector."""
        rows, count = self.content.shape[:2]
        of_token = torch.full((rows, count), len(vectors), device=vectors.device)
        for key, of_name in of_tokens.items():
            of_token[:, self.spans[key].start : self.spans[key].stop] = of_name
        return replace(self, conditions=Conditions(F.pad(vectors, (0, 0, 0, 1)), of_token))


@dataclass(frozen=True)
class HiddenStates:
    """The backbone's output, one row per sample.

    Attributes:
        hidden: one vector per token, in the order of the set; zero where there is no token.
        valid: which tokens are real.
        spans: for each name, its tokens.
        memory: the encoder's output, with the names that are encoded.
    """

    hidden: Float[Tensor, "B N D"]
    valid: Bool[Tensor, "#B N"]
    spans: Mapping[str, Span]
    memory: HiddenStates | None = None

    def tokens(self, name: str) -> Float[Tensor, "B n D"]:
        """Hidden states of one name's content, without its prefix tokens."""
        states, span = self._find(name)
        return states.hidden[:, span.content_start : span.stop]

    def lengths(self, name: str) -> Int[Tensor, " B"]:
        """How many tokens of one name's content are real; they come first."""
        states, span = self._find(name)
        return states.valid[:, span.content_start : span.stop].sum(1).expand(states.hidden.shape[0])

    def summaries(self, name: str) -> Float[Tensor, "B s D"]:
        """Hidden states of one name's summary tokens."""
        states, span = self._find(name)
        return states.hidden[:, span.start : span.start + span.num_summaries]

    def content_mask(self) -> Bool[Tensor, "#B N"]:
        """Real tokens that are no prefix tokens."""
        mask = self.valid.clone()
        for span in self.spans.values():
            mask[:, span.start : span.content_start] = False
        return mask

    def _find(self, name: str) -> tuple[HiddenStates, Span]:
        """The stack that has a name, and its tokens there."""
        states = self if name in self.spans or self.memory is None else self.memory
        return states, states.spans[name]


def pack(token_set: TokenSet) -> TokenSet:
    """Moves the real tokens of all samples into one row (see `Packing`), so that nothing is computed on padding.

    A set without host lengths is not packed: nothing waits for the device. Where the set asks for it, the tokens of
    each sample are laid in the order of time before.
    """
    if token_set.in_time is not None:
        token_set = _in_time(token_set, token_set.in_time)
    if token_set.lengths is None:
        return token_set
    unpacked = token_set.connectivity
    packing = Packing.of(token_set.lengths, unpacked.valid.expand(len(token_set.content), -1))
    connectivity = Connectivity(
        order=packing.pack(unpacked.order),
        position=packing.pack(unpacked.position),
        segment=packing.segment,
        valid=packing.pack(packing.real),
        pattern=unpacked.pattern,
        padded=packing.is_empty,
        packing=packing,
        private=None if unpacked.private is None else packing.pack(unpacked.private),
        time_order=unpacked.time_order,
        consecutive=unpacked.consecutive,
        index=None if unpacked.index is None else packing.pack(unpacked.index),
    )
    content, place = packing.pack(token_set.content), packing.pack(token_set.place)
    conditions = _laid(token_set.conditions, packing.pack)
    return TokenSet(content, place, connectivity, token_set.spans, conditions=conditions)


def split(
    hidden: Float[Tensor, "R N D"],
    connectivity: Connectivity,
    spans: Mapping[str, Span],
    memory: HiddenStates | None = None,
) -> HiddenStates:
    """The way back: undoes `pack`, so that each sample has its own row and each name its span."""
    packing, time_order, valid = connectivity.packing, connectivity.time_order, connectivity.valid
    if packing is not None:
        hidden, valid = packing.unpack(hidden), packing.real
    elif connectivity.padded:
        hidden = hidden.masked_fill(~valid[..., None], 0.0)
    if time_order is not None:
        hidden, valid = time_order.restore(hidden), time_order.restore(valid)
    return HiddenStates(hidden, valid, spans, memory)


def _in_time(token_set: TokenSet, pattern: Pattern) -> TokenSet:
    """The set with the tokens of each row in the order of time."""
    time_order = TimeOrder.of(token_set.connectivity.order, token_set.connectivity.valid)
    content, place = time_order.lay(token_set.content), time_order.lay(token_set.place)
    connectivity = token_set.connectivity.laid(time_order, pattern)
    conditions = _laid(token_set.conditions, time_order.lay)
    pairs = None if token_set.pairs is None else time_order.lay(time_order.lay(token_set.pairs).mT).mT
    laid: dict[str, Any] = {"content": content, "place": place, "connectivity": connectivity, "conditions": conditions}
    laid["pairs"] = pairs
    return replace(token_set, **laid, in_time=None)


def _laid(conditions: Conditions | None, lay: Callable[[Tensor], Tensor]) -> Conditions | None:
    return None if conditions is None else conditions.laid(lay(conditions.of_token))
