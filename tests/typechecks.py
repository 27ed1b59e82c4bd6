"""The type checker that jaxtyping's import hook decorates functions with."""

from beartype import beartype


def of_modules(function):
    """Checks the types of a function of a module or class. One that is defined within a call would be decorated anew in
    each, which takes longer than what it computes."""
    return function if "<locals>" in function.__qualname__ else beartype(function)
