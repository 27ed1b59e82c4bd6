"""Associative recall: answers by a dictionary, places by their law."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from mmtx.data.algorithmic.mqar import MQAR


@pytest.mark.parametrize(("length", "pairs"), [(64, 4), (128, 8), (135, 8)])
def test_values_are_those_of_a_dictionary(length: int, pairs: int) -> None:
    task, generator = MQAR(num_ids=1024, tokens_per_pair=16), random.Random(0)
    for _ in range(30):
        text = task.draw(generator, length)["text"]
        ids, predicted = text["ids"].tolist(), text["predicted"].tolist()
        values = dict(zip(ids[0 : 2 * pairs : 2], ids[1 : 2 * pairs : 2], strict=True))
        assert len(ids) == length and len(values) == len({*values.values()}) == pairs
        assert all(1 <= key < 512 <= value < 1024 for key, value in values.items())
        queried = [place for place, one in enumerate(predicted) if one]
        assert sorted(ids[place - 1] for place in queried) == sorted(values)
        assert all(ids[place] == values[ids[place - 1]] for place in queried)
        rest = {place for place in range(2 * pairs, length) if place not in queried and place + 1 not in queried}
        assert all(ids[place] == 0 for place in rest)


def test_places_follow_the_power_law() -> None:
    """Against the chance of each order of two of four places: drawn without being put back, by g^(0.01 - 1)."""
    weights = [gap**-0.99 for gap in range(1, 5)]
    chances = {
        (one, two): weights[one] / sum(weights) * weights[two] / (sum(weights) - weights[one])
        for one, two in permutations(range(4), 2)
    }
    generator, count = random.Random(0), 6000
    drawn = [tuple(MQAR._places(generator, 4, 2)) for _ in range(count)]
    for order, chance in chances.items():
        sd = (chance * (1 - chance) / count) ** 0.5
        assert abs(drawn.count(order) / count - chance) < 4 * sd
