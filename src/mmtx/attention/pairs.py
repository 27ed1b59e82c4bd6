"""How many pairs of real tokens attend: what attention has to compute, whatever rendering computes it."""

from jaxtyping import Bool, Int
from torch import Tensor

from mmtx.attention.integers import allowed
from mmtx.attention.memory_rule import MemoryRule
from mmtx.attention.rule import Connectivity, Pattern

AT_ONCE = 2**24
"""Pairs that are looked at together, which bounds the memory."""


def num_pairs(connectivity: Connectivity, rows: int, window: int | None = None) -> int:
    """Of a set's real tokens, those of which the first attends to the second. Waits for the device.

    Args:
        connectivity: all tokens are queries.
        rows: of the batch, where those of the connectivity agree.
        window: reach in positions.
    """
    if connectivity.packing is not None:
        alone = () if connectivity.packing.is_empty else connectivity.samples()
        return sum(num_pairs(tokens, len(samples), window) for samples, tokens in alone)
    lengths = connectivity.valid.sum(1)
    if window is None and not connectivity.packed and connectivity.pattern is not Pattern.MIXED:
        causal = connectivity.pattern is Pattern.CAUSAL
        return _of_all_rows(lengths * (lengths + 1) // 2 if causal else lengths**2, rows)
    per_query = max(1, AT_ONCE // (connectivity.integers.rows * len(connectivity)))
    parts = (slice(first, first + per_query) for first in range(0, len(connectivity), per_query))
    return sum(_of_all_rows(_attending(connectivity, part, window), rows) for part in parts)


def num_memory_pairs(queries: Connectivity, memory: Connectivity, rows: int) -> int:
    """The same between the tokens of a set and those of its memory."""
    if queries.packing is not None and memory.packing is not None:
        return sum(n * m for n, m in zip(queries.packing.lengths, memory.packing.lengths, strict=True))
    return _of_all_rows(_real(MemoryRule(queries, memory).dense(), queries.valid), rows)


def num_real(connectivity: Connectivity, rows: int) -> int:
    """Real tokens of a set."""
    if connectivity.packing is not None:
        return sum(connectivity.packing.lengths)
    return _of_all_rows(connectivity.valid.sum(1), rows)


def _attending(connectivity: Connectivity, part: slice, window: int | None) -> Int[Tensor, " #B"]:
    """Pairs of each row whose query is in a part of it."""
    keys = connectivity.integers
    queries = keys.map(lambda values: values[:, part, None])
    return _real(allowed(queries, keys.map(lambda values: values[:, None]), window), connectivity.valid[:, part])


def _real(attends: Bool[Tensor, "#B #Q M"], valid: Bool[Tensor, "#B Q"]) -> Int[Tensor, " #B"]:
    return (attends & valid[:, :, None]).sum((1, 2))


def _of_all_rows(counts: Int[Tensor, " #B"], rows: int) -> int:
    return int(counts.sum()) * (rows // len(counts))
