"""Links between our weights and those of a public family, in both directions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtx.errors import UserError

Weights = dict[str, Tensor]
Several = Sequence[Tensor]
Patterns = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class Link:
    """Weights of ours that correspond to weights of theirs.

    Attributes:
        ours: keys of a learner's state.
        theirs: keys of the public file.
        read: computes ours from theirs.
        write: computes theirs from ours.
        optional: whether their file may lack them.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[Several], Several]
    write: Callable[[Several], Several]
    optional: bool = False


def same(ours: str, theirs: str) -> Link:
    return Link((ours,), (theirs,), lambda t: t, lambda o: o)


def one_more(ours: str, theirs: str) -> Link:
    """Ours is theirs plus one: they multiply by ``1 + theirs``. What rounding loses is kept, see `lost`."""
    return Link((ours,), (theirs,), lambda t: [t[0] + 1], lambda o: [o[0] - 1])


def both(ours: str, theirs: str) -> list[Link]:
    """Links of weight and bias."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def transposed(ours: str, theirs: str) -> Link:
    return Link((ours,), (theirs,), lambda t: [t[0].T.contiguous()], lambda o: [o[0].T.contiguous()])


def stacked(ours: str, theirs: Sequence[str], rows: Sequence[int] | None = None) -> Link:
    """One of ours is the concatenation of several of theirs: of so many rows each, or all of equal size."""

    def write(several: Several) -> Several:
        whole = several[0]
        return _parts(whole, len(theirs)) if rows is None else [part.contiguous() for part in whole.split(list(rows))]

    return Link((ours,), tuple(theirs), lambda t: [torch.cat(list(t))], write)


def by_expert(ours: str, theirs: Sequence[str], num_experts: int) -> Link:
    """One of ours, whose first axis is that of experts, has in each the rows of as many of theirs."""

    def read(several: Several) -> Several:
        return [torch.cat(list(several)).unflatten(0, (num_experts, -1))]

    return Link((ours,), tuple(theirs), read, lambda o: _parts(o[0].flatten(0, 1), len(theirs)))


def cut(ours: Sequence[str], theirs: str) -> Link:
    """Several of ours are the chunks of one of theirs."""
    return Link(tuple(ours), (theirs,), lambda t: _parts(t[0], len(ours)), lambda o: [torch.cat(list(o))])


def reshaped(ours: str, theirs: str, our_shape: Sequence[int], their_shape: Sequence[int]) -> Link:
    return Link(
        (ours,), (theirs,), lambda t: [t[0].reshape(tuple(our_shape))], lambda o: [o[0].reshape(tuple(their_shape))]
    )


def shared(ours: Sequence[str], theirs: str) -> Link:
    """Several of ours are equal to one of theirs."""

    def write(several: Several) -> Several:
        first, *others = several
        if not first.is_meta and not all(torch.equal(first, other) for other in others):
            raise UserError(f"{' and '.join(ours)} differ; there they are one, {theirs}")
        return [first]

    return Link(tuple(ours), (theirs,), lambda t: [t[0]] * len(ours), write)


def encoder_block(
    ours: str, theirs: str, *, attention: str, names: Mapping[str, str], biases: Sequence[str] = PARTS
) -> list[Link]:
    """A block whose queries, keys and values are three linear maps there.

    Args:
        ours: prefix of the block's weights.
        theirs: prefix there.
        attention: prefix of the three maps, there.
        names: ``{ours: theirs}`` of the block's other parts.
        biases: those of the three that have one.
    """
    maps = {part: f"{theirs}.{attention}.{part}" for part in PARTS}
    links = [stacked(f"{ours}.attention.qkv.weight", [f"{name}.weight" for name in maps.values()])]
    links += [same(f"{ours}.attention.biases.{part}", f"{maps[part]}.bias") for part in biases]
    return links + [link for here, there in names.items() for link in both(f"{ours}.{here}", f"{theirs}.{there}")]


def idle(theirs: str, shape: Sequence[int]) -> Link:
    """A weight that their file may have and mmtx does not use; written as zeros."""
    return constant(theirs, torch.zeros(tuple(shape)))


def constant(theirs: str, value: Tensor) -> Link:
    """A weight that their file may have and mmtx knows."""
    return Link((), (theirs,), lambda t: [], lambda o: [value], optional=True)


def read(links: Sequence[Link], weights: Mapping[str, Tensor]) -> Weights:
    """Our weights, from theirs."""
    ours: Weights = {}
    for link in links:
        if link.ours and not (link.optional and link.theirs[0] not in weights):
            ours |= zip(link.ours, link.read([weights[key] for key in link.theirs]), strict=True)
    return ours


def write(links: Sequence[Link], state: Mapping[str, Tensor], rest: Mapping[str, Tensor] | None = None) -> Weights:
    """Their weights, from ours.

    Args:
        links: between the two.
        state: ours.
        rest: imported weights of theirs (see `lost`), which are written unchanged where they still correspond to ours.
    """
    theirs: Weights = {}
    for link in links:
        ours = [state[key] for key in link.ours]
        written = list(link.write(ours))
        if rest and any(key in rest for key in link.theirs):
            before = [rest.get(key, value) for key, value in zip(link.theirs, written, strict=True)]
            if all(map(torch.equal, link.read(before), ours)):
                written = before
        theirs |= zip(link.theirs, written, strict=True)
    return theirs


def lost(links: Sequence[Link], state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Weights:
    """Weights of theirs that do not follow from ours: two of which only the sum is here, and idle ones."""
    again = write(links, state)
    return {
        key: weights[key] for key, value in again.items() if key in weights and not torch.equal(value, weights[key])
    }


def renamed(weights: Weights, patterns: Patterns) -> Weights:
    """Weights whose names are changed by one pattern after the other."""
    return {changed(key, patterns): value for key, value in weights.items()}


def changed(name: str, patterns: Patterns) -> str:
    """A name that is changed by one pattern after the other."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def apart(weights: Weights, fused: Mapping[str, Sequence[str]]) -> Weights:
    """Weights of all experts in one, whose first axis is theirs, each for itself.

    Args:
        weights: of a file.
        fused: patterns of their names; and the names of the parts of each expert, whose number stands for ``{}``.
    """
    result: Weights = {}
    for key, value in weights.items():
        pattern = next((pattern for pattern in fused if re.search(pattern, key)), None)
        if pattern is None:
            result[key] = value
            continue
        for expert, rows in enumerate(value):
            parts = zip(fused[pattern], rows.chunk(len(fused[pattern])), strict=True)
            result |= {re.sub(pattern, name.format(expert), key): part for name, part in parts}
    return result


def _parts(whole: Tensor, count: int) -> list[Tensor]:
    return [part.contiguous() for part in whole.chunk(count)]
