"""Copies of a name: it stands in the set more than once, as a text does that is noisy and clean.

Axes as in `tokens`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.tokens import Tokens


@dataclass(frozen=True)
class Copy:
    """One of the copies of a name: tokenizer, type, coordinates and lengths are the name's, the rest its own.

    Attributes:
        name: of the set.
        values: fields of its own, of the shapes that the batch's have; the others are the batch's.
        times: item of each token, on the name's clock; None: as the tokenizer has it. A text in blocks of four has
            ``torch.arange(n)[None] // 4``. Tokens of one item attend to each other, and their times no longer tell them
            apart: rotary positions read the axis ``index`` then.
        private: only tokens of its own order attend to it.
        in_front: scratch tokens of its own before the name's content, which have no place, and whose outputs are
            ignored, such as one that has the time of a flow.
    """

    name: str
    values: Mapping[str, Tensor] = field(default_factory=dict)
    times: Int[Tensor, "#B n"] | None = None
    private: bool = False
    in_front: Float[Tensor, "B k D"] | None = None

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Tokens of samples in which the name has so many."""
        return lengths if self.in_front is None else lengths + self.in_front.shape[1] * (lengths > 0)

    def of(self, tokens: Tokens) -> Tokens:
        """The tokens of its fields with its own times; raises ValueError if those are not one for each token."""
        tokens = replace(tokens, private=tokens.private or self.private)
        if self.times is not None:
            if self.times.shape[-1] != tokens.content.shape[1]:
                count = tokens.content.shape[1]
                raise ValueError(f"a copy of '{self.name}' has {self.times.shape[-1]} times for {count} tokens")
            tokens = replace(tokens, time=self.times, timed=True)
        return tokens if self.in_front is None else self._with_scratch(tokens, self.in_front)

    def _with_scratch(self, tokens: Tokens, scratch: Float[Tensor, "B k D"]) -> Tokens:
        """Behind the name's own prefix tokens, of the same item as the first token."""
        begin, count = tokens.num_prefix_tokens, scratch.shape[1]
        content, places = tokens.content, tokens.coordinates
        new_places = places.new_zeros(count, places.shape[1])
        return replace(
            tokens,
            content=torch.cat([content[:, :begin], scratch.to(content.dtype), content[:, begin:]], dim=1),
            coordinates=torch.cat([places[:begin], new_places, places[begin:]]),
            time=torch.cat([tokens.time[:, :1].expand(-1, count), tokens.time], dim=1),
            lengths=self.num_tokens(tokens.lengths),
            num_registers=tokens.num_registers + count,
            consecutive=False,
            pairs=None if tokens.pairs is None else _with_room(tokens.pairs, begin, count),
        )


def _with_room(pairs: Float[Tensor, "B n n"], begin: int, count: int) -> Float[Tensor, "B N N"]:
    """Pairs of tokens among which so many more begin to stand at one place, which have nothing with any other."""
    for axis in (1, 2):
        before, behind = pairs.split([begin, pairs.shape[axis] - begin], axis)
        shape = [count if at == axis else size for at, size in enumerate(pairs.shape)]
        pairs = torch.cat([before, pairs.new_zeros(shape), behind], axis)
    return pairs


def in_place(names: Iterable[str], copies: Mapping[str, Copy]) -> dict[str, Copy]:
    """What stands in a set, by key: each name once, or its copies in its place, in their order.

    Raises ValueError for a copy of a name that is not among `names`, or whose key is another of them.
    """
    names = list(names)
    for key, copy in copies.items():
        if copy.name not in names:
            raise ValueError(f"copy '{key}' is of '{copy.name}', and the set that attends has {', '.join(names)}")
        if key in names and key != copy.name:
            raise ValueError(f"copy '{key}' of '{copy.name}' has the key of another name of the set")
    placed: dict[str, Copy] = {}
    for name in names:
        placed |= {key: copy for key, copy in copies.items() if copy.name == name} or {name: Copy(name)}
    return placed
