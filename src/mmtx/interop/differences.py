"""Where a public file is not what its config declares, as one table."""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mmtx.interop.links import Link, write

Row = tuple[str, str, str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Lines of three columns."""
    every = [head, *rows]
    first, second = (max(len(row[column]) for row in every) for column in (0, 1))
    return "\n".join(f"  {name:<{first}}  {found:<{second}}  {expected}" for name, found, expected in every)


def differences(
    links: Sequence[Link],
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    unused: str,
    copies: Mapping[str, str],
) -> Iterator[Row]:
    """All differences between the weights of a file and its config: a name, what the file has, what the config has.

    Args:
        links: between the learner of that config and the file.
        state: of the learner.
        weights: of the file.
        unused: pattern of keys that are ignored.
        copies: keys that are allowed if they equal another.
    """
    expected = write(links, {key: value.to("meta") for key, value in state.items()})
    optional = {key for link in links if link.optional for key in link.theirs}
    for key, wanted in expected.items():
        if key not in weights and key not in optional:
            yield key, "missing", _shape(wanted)
        elif key in weights and weights[key].shape != wanted.shape:
            yield key, _shape(weights[key]), _shape(wanted)
    for key in weights:
        if key in copies:
            if key not in expected and not torch.equal(weights[key], weights.get(copies[key], weights[key])):
                yield key, "other numbers", f"those of {copies[key]}; mmtx has one for both"
        elif key not in expected and not re.search(unused, key):
            yield key, _shape(weights[key]), "nothing"


def _shape(weight: Tensor) -> str:
    return str([*weight.shape])
