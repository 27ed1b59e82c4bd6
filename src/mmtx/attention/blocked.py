"""Attention block by block, for windows and other sparse sets on a CPU, linear in the pairs that attend.

Axes as in `kernels`; g blocks of queries, c blocks of keys for each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mmtx.attention.block_plan import BLOCK, BlockPlan
from mmtx.attention.integers import Integers, allowed
from mmtx.attention.kernels import Bias, BiasOf, Keys, Queries, Sinks, sdpa


@dataclass(frozen=True)
class BlockGroup:
    """Blocks of queries of one row that are computed in one call, since they attend to equally many blocks of keys.

    Attributes:
        queries: blocks of queries.
        keys: the blocks of keys of each of them.
        allowed: where a query may attend to a key; one mask where all blocks agree.
    """

    queries: Int[Tensor, " g"]
    keys: Int[Tensor, "g c"]
    allowed: Bool[Tensor, "#g 1 BLOCK keys"]


@dataclass(frozen=True)
class Blocked:
    """Each block of queries against the blocks of keys that it may attend to.

    Attributes:
        rows: the groups of each row of the batch; of one, where all rows agree. Every block of queries is in one group.
            A bias has a tensor for each group.
    """

    rows: tuple[tuple[BlockGroup, ...], ...]

    @classmethod
    def of(cls, integers: Integers, window: int | None, most: float) -> "Blocked | None":
        """The rendering of a set; None if more than `most` of its pairs of blocks may attend."""
        agree = all(bool((part == part[:1]).all()) for part in _tensors(integers))
        shared = integers.map(lambda part: part[:1] if agree else part)
        some = BlockPlan.of(shared, shared, window).some
        if some.float().mean() > most:
            return None
        padded = shared.padded(BLOCK)
        rows = (_groups(_blocks_of_row(padded, row), blocks, window) for row, blocks in enumerate(some))
        return cls(tuple(tuple(groups) for groups in rows))

    @torch.compiler.disable
    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        missing = -q.shape[2] % BLOCK
        q_rows, k_rows, v_rows = (F.pad(x, (0, 0, 0, missing)).unbind() if missing else x.unbind() for x in (q, k, v))
        rows = self.rows if len(self.rows) > 1 else self.rows * len(q_rows)
        biases = self._biases_of_rows(bias, len(q_rows))
        out = []
        for groups, given, q_row, k_row, v_row in zip(rows, biases, q_rows, k_rows, v_rows, strict=True):
            parts = []
            for group, added in zip(groups, given, strict=True):
                mask = group.allowed if added is None else added.masked_fill(~group.allowed, float("-inf"))
                keys, values = _taken(k_row, group.keys), _taken(v_row, group.keys)
                parts.append(sdpa(_taken(q_row, group.queries[:, None]), keys, values, mask, scale, dropout, sinks))
            out.append(_joined(groups, parts))
        return torch.stack(out)[:, : q.shape[2]].transpose(1, 2)

    def bias(self, of: BiasOf, position: Int[Tensor, "#B N 3"]) -> Bias:
        """The bias of positions for each group, row after row, and nothing larger."""
        whole = F.pad(position, (0, 0, 0, -position.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        made = []
        for row, groups in enumerate(self.rows):
            blocks = whole[min(row, len(whole) - 1)]
            made += [of(blocks[group.queries], blocks[group.keys].flatten(1, 2)) for group in groups]
        return tuple(made)

    def _biases_of_rows(self, bias: Bias, num_rows: int) -> list[tuple[Tensor | None, ...]]:
        if bias is None:
            of_rows: list[tuple[Tensor | None, ...]] = [(None,) * len(groups) for groups in self.rows]
        else:
            left: Iterator[Tensor] = iter(bias)
            of_rows = [tuple(next(left) for _ in groups) for groups in self.rows]
        return of_rows if len(of_rows) > 1 else of_rows * num_rows


def _blocks_of_row(integers: Integers, row: int) -> Integers:
    """The integers of one row, ``(blocks, BLOCK)``."""
    return integers.map(lambda part: part[min(row, len(part) - 1)].view(-1, BLOCK))


def _groups(row: Integers, some: Bool[Tensor, "blocks blocks"], window: int | None) -> Iterator[BlockGroup]:
    """The groups of a row, by how many blocks of keys they have; the last block, where tokens may be missing, alone."""
    counts = some.sum(1)
    labels = counts.clone()
    labels[-1] = len(counts) + 1
    for label in labels.unique():
        queries = (labels == label).nonzero()[:, 0]
        yield _group(row, queries, some[queries].nonzero()[:, 1].view(len(queries), -1), window)


def _group(row: Integers, queries: Int[Tensor, " g"], keys: Int[Tensor, "g c"], window: int | None) -> BlockGroup:
    query, key = row.map(lambda part: part[queries, :, None]), row.map(lambda part: part[keys].flatten(1)[:, None])
    mask = allowed(query, key, window)
    return BlockGroup(queries, keys, (mask[:1] if bool((mask == mask[:1]).all()) else mask)[:, None])


def _taken(x: Float[Tensor, "heads N E"], blocks: Int[Tensor, "g c"]) -> Float[Tensor, "g heads keys E"]:
    """Blocks of a row, those of each query side by side: a view where each has the next ones, as in a causal window."""
    count, each = blocks.shape
    first = int(blocks[0, 0])
    if blocks.equal(first + torch.arange(count)[:, None] + torch.arange(each)):
        run = x[:, first * BLOCK : (first + count + each - 1) * BLOCK]
        return run.unfold(1, each * BLOCK, BLOCK).permute(1, 0, 3, 2)
    chosen = x.unflatten(1, (-1, BLOCK)).index_select(1, blocks.flatten())
    return chosen.unflatten(1, (count, each)).flatten(2, 3).transpose(0, 1)


def _joined(
    groups: tuple[BlockGroup, ...], parts: list[Float[Tensor, "_ heads BLOCK E"]]
) -> Float[Tensor, "N heads E"]:
    """The row of all blocks, in their order."""
    row, blocks = torch.cat([part.transpose(1, 2) for part in parts]), torch.cat([group.queries for group in groups])
    in_order = blocks.equal(torch.arange(len(blocks)))
    return (row if in_order else row.index_select(0, blocks.argsort())).flatten(0, 1)


def _tensors(integers: Integers) -> list[Shaped[Tensor, "#B N"]]:
    return [part for part in (*integers, *integers.axes) if isinstance(part, Tensor)]
