"""The type checker that jaxtyping's import hook decorates functions with."""

import functools
from collections import Counter

from beartype import beartype

CALLS = 5
"""How many calls of a function are checked in each test. A loop over steps or layers goes on with the same types and
shapes, and to check each of its calls takes longer than what they compute."""
seen: Counter = Counter()
"""The calls of each function in the test that runs."""


def of_modules(function):
    """Checks the types of a function of a module or class. One that is defined within a call would be decorated anew in
    each, which takes longer than what it computes."""
    if "<locals>" in function.__qualname__:
        return function

    @functools.cache
    def checked():
        return beartype(function)  # when it is first called: most of what is imported is not, in one process

    @functools.wraps(function)
    def first_calls(*args, **kwargs):
        seen[function] += 1
        return (checked() if seen[function] <= CALLS else function)(*args, **kwargs)

    return first_calls
