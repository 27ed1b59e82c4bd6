"""A table of cases in which each two values of two axes meet, as greedily as it gets short."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Case = Mapping[str, Any]
Pair = frozenset[tuple[str, Any]]


def pairs_of(case: Case) -> set[Pair]:
    """The pairs of values that meet in a case."""
    return {frozenset(pair) for pair in combinations(case.items(), 2)}


def all_pairs(axes: Mapping[str, Sequence[Any]], allowed: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Few cases, so that every pair meets that meets in some allowed case; always the case that has most new pairs."""
    candidates = [case for values in product(*axes.values()) if allowed(case := dict(zip(axes, values, strict=True)))]
    left: set[Pair] = set().union(*map(pairs_of, candidates))
    cases = []
    while left:
        best = max(candidates, key=lambda case: len(pairs_of(case) & left))
        left -= pairs_of(best)
        cases.append(best)
    return cases
