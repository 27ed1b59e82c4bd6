"""Blocks of samples in windows."""

from itertools import islice

import pytest

from mmtx.data.sampler import Draw, Stream, TrainSampler
from mmtx.data.window_order import WindowOrder

SIZES = [5, 3, 7, 1, 4, 6, 2, 8]
TOTAL = sum(SIZES)
BLOCK_OF = [block for block, size in enumerate(SIZES) for _ in range(size)]


def order(seed: int = 0, limit: int = 30, costs: list[int] | None = None) -> WindowOrder:
    return WindowOrder(sizes=SIZES, costs=costs or [10] * len(SIZES), limit=limit, seed=seed)


def drawn(stream: Stream, start: int, count: int) -> list[Draw]:
    return list(islice(stream.stream(start), count))


def test_every_epoch_has_every_sample_once_in_its_own_order() -> None:
    draws = drawn(order(), 0, 3 * TOTAL)
    epochs = [[draw.index for draw in draws[TOTAL * e : TOTAL * (e + 1)]] for e in range(3)]
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in epochs)
    assert [draw.epoch for draw in draws] == [epoch for epoch in range(3) for _ in range(TOTAL)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert drawn(order(seed=1), 0, TOTAL) != draws[:TOTAL]


@pytest.mark.parametrize("start", [0, 1, 17, TOTAL - 1, TOTAL, TOTAL + 5, 2 * TOTAL + 20])
def test_it_goes_on_from_anywhere(start: int) -> None:
    assert drawn(order(), start, 50) == drawn(order(), 0, start + 50)[start:]


def test_few_blocks_are_needed_at_a_time() -> None:
    """Three of cost 10 fit 30; a block that costs more than all is alone."""
    for costs, most in (([10] * 8, 3), ([10, 10, 90, 10, 10, 10, 10, 10], 3), ([40] * 8, 1)):
        blocks = [BLOCK_OF[draw.index] for draw in drawn(order(costs=costs), 0, TOTAL)]
        first = {block: blocks.index(block) for block in set(blocks)}
        last = {block: TOTAL - 1 - blocks[::-1].index(block) for block in set(blocks)}
        open_at = [{b for b in set(blocks) if first[b] <= i <= last[b]} for i in range(TOTAL)]
        assert max(map(len, open_at)) <= most
        for blocks_at_once in open_at:
            assert sum(costs[b] for b in blocks_at_once) <= 30 or len(blocks_at_once) == 1


def test_ranks_share_one_stream() -> None:
    def steps(rank: int, ranks: int, accumulate: int) -> list[list[int]]:
        given = TrainSampler(order(), num_steps=8, batch_size=2, accumulate=accumulate, rank=rank, num_ranks=ranks)
        return [[draw.index for draw in step] for step in given]

    whole = steps(0, 1, 2)
    assert [one + other for one, other in zip(steps(0, 2, 1), steps(1, 2, 1), strict=True)] == whole
