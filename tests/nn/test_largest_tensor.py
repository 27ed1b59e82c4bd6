"""No tensor of all pairs is made, forward or backward, where there is a window or packing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import KINDS, POSITIONS, backbone
from random_sets import RandomSet, group
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmtx.attention.rule import Connectivity
from mmtx.tokens import pack

WIDTH, HEADS, WINDOW = 16, 2, 64


class Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor that an operation gives."""

    elements = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [
            leaf.untyped_storage().nbytes() // leaf.itemsize for leaf in tree_leaves(out) if isinstance(leaf, Tensor)
        ]
        self.elements = max([self.elements, *made])
        return out


def text(lengths: list[int], packed: bool) -> Connectivity:
    """Texts of rows of their own, or in one row."""
    random_set = RandomSet({"text": group("causal", "text", max(lengths), lengths, columns=1)}, {})
    token_set = random_set.join()
    return (pack(replace(token_set, lengths=tuple(lengths))) if packed else token_set).connectivity


def largest(connectivity: Connectivity, rows: int, **changes: Any) -> int:
    stack = backbone(
        dim=WIDTH, num_heads=HEADS, num_layers=1, **{"layers": "L", "window": WINDOW, "kinds": KINDS} | changes
    ).train()
    x = torch.randn(rows, len(connectivity), WIDTH, requires_grad=True)
    with Largest() as mode:
        stack(x, connectivity).square().sum().backward()
    return mode.elements


@pytest.mark.parametrize("lengths", [[2048], [1500, 548]], ids=["one text", "padded or packed"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_window_costs_its_tokens(lengths: list[int], packed: bool) -> None:
    """At most what is near: 2 blocks of 128 keys for each query; and twice as much for twice the tokens."""
    of_some, of_twice = (
        largest(text(given, packed), 1 if packed else len(given)) for given in (lengths, [2 * n for n in lengths])
    )
    tokens = sum(lengths) if packed else len(lengths) * max(lengths)
    assert of_some <= tokens * 2 * 128 and of_twice <= 2.2 * of_some


def test_a_bias_of_positions_is_made_block_by_block() -> None:
    """Three coordinates of each pair of a block and its neighbours."""
    biased = {"positions": POSITIONS["alibi"]}
    of_some, of_twice = (largest(text([n], False), 1, **biased) for n in (2048, 4096))
    assert of_some <= 2048 * 2 * 128 * 3 and of_twice <= 2.2 * of_some


@pytest.mark.parametrize("num_samples", [8, 16])
def test_a_packed_row_costs_its_longest_sample(num_samples: int) -> None:
    """Without a window: never more than the pairs of equal samples."""
    assert largest(text([128] * num_samples, True), 1, layers="G") <= num_samples * HEADS * 128 * 128
