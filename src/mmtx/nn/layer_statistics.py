"""What a layer counts of the tokens that pass through it."""

from collections.abc import Mapping

from torch import Tensor

Statistics = dict[str, Tensor]
"""Sums and counts over the real tokens of a batch, by name (see `LayerContext.sum_over_tokens`)."""

Output = Tensor | tuple[Tensor, Statistics]
"""What a half of a layer, or a layer, gives: tokens, and statistics where it has any."""


def with_statistics(output: Output) -> tuple[Tensor, Statistics]:
    """Tokens and statistics, none where there are none."""
    return output if isinstance(output, tuple) else (output, {})


def add_statistics(totals: Statistics, statistics: Mapping[str, Tensor]) -> None:
    """Adds to what is there already, in place."""
    for name, value in statistics.items():
        totals[name] = totals[name] + value if name in totals else value
