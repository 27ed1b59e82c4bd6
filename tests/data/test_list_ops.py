"""ListOps: values by Python's own evaluation, and the limits of its grammar."""

from __future__ import annotations

import random
import statistics
from typing import Any

from mmtx.data.algorithmic.list_ops import ListOps

OPERATORS: dict[str, Any] = {
    "MAX": lambda *numbers: max(numbers),
    "MIN": lambda *numbers: min(numbers),
    "MED": lambda *numbers: int(statistics.median(numbers)),
    "SM": lambda *numbers: sum(numbers) % 10,
}


def as_python(text: str) -> str:
    """``[MAX 2 [MIN 4 7 ] ]`` as ``MAX(2,MIN(4,7,),)``."""
    symbols = [f"{s[1:]}(" if s.startswith("[") else ")," if s == "]" else f"{s}," for s in text.split()]
    return "".join(symbols)[:-1]


def depth(text: str) -> int:
    open_lists = deepest = 0
    for symbol in text.split():
        open_lists += symbol.startswith("[") - (symbol == "]")
        deepest = max(deepest, open_lists)
    return deepest


def elements(text: str) -> list[int]:
    """Of each list, how many elements it has."""
    counts: list[int] = []
    eval(as_python(text), {name: lambda *each: counts.append(len(each)) for name in OPERATORS})
    return counts


def test_values_are_those_that_python_gives() -> None:
    task, generator, depths = ListOps(max_depth=4, max_elements=5), random.Random(0), set()
    for length in [4, 5, 9, 16, 33, 60] * 40:
        text, value = task.example(generator, length)
        assert eval(as_python(text), dict(OPERATORS)) == value
        assert length // 2 < len(text.split()) <= length
        assert min(elements(text)) >= 2 and max(elements(text)) <= 5
        depths.add(depth(text))
    assert depths == {1, 2, 3, 4}


def test_every_operator_and_every_value_occurs() -> None:
    task, generator = ListOps(max_depth=3, max_elements=4), random.Random(0)
    drawn = [task.example(generator, 12) for _ in range(300)]
    assert {text.split()[0] for text, _ in drawn} == {"[MAX", "[MIN", "[MED", "[SM"}
    assert {value for _, value in drawn} == set(range(10))
