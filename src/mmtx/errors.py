"""Errors that a user can mend: the command line turns them into exit code 2 and one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST_PROBLEMS = 10
"""Named in one error; the others are counted."""


class UserError(ValueError):
    """An error that the user can mend. Its text names what, where, the value, the limit and the key to change."""


class InvalidValue(UserError):
    """A config value that cannot work.

    Args:
        key: the config key, relative to the object that raises (``dim``); `under` completes the path.
        value: the given one.
        problem: as a predicate ("is not a multiple of num_heads=4").
        nearest: the nearest values that would work.
    """

    def __init__(self, key: str, value: object, problem: str, nearest: str | None = None) -> None:
        self.key, self.value, self.problem, self.nearest = key, value, problem, nearest
        hint = f"; nearest: {nearest}" if nearest else ""
        super().__init__(f"{key}={value} {problem}{hint}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return InvalidValue, (self.key, self.value, self.problem, self.nearest)

    def under(self, path: str) -> InvalidValue:
        """The same error with its key completed to ``path.key``."""
        key = f"{path}.{self.key}" if path else self.key
        return InvalidValue(key, self.value, self.problem, self.nearest)


class ConfigErrors(UserError):
    """All problems of one config, reported at once."""

    def __init__(self, findings: list[str]) -> None:
        self.findings = findings
        count = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
        super().__init__("\n".join([f"{count} in the config:", *(f"  - {finding}" for finding in findings)]))


class ProcessDied(Exception):
    """A process that the run needs has died or hangs. The config is not to blame: one line, exit code 1."""


def check_at_least(key: str, value: int | float | None, least: int) -> None:
    """Raises `InvalidValue` where a number is below its limit; None passes."""
    if value is not None and value < least:
        raise InvalidValue(key, value, f"must be at least {least}")


def check_within(key: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raises `InvalidValue` where a number lies outside of its limits, which are allowed themselves."""
    if not low <= value <= high:
        raise InvalidValue(key, value, f"must lie in {low}..{high}", str(min(max(value, low), high)))


def check_fraction(key: str, value: int | float) -> None:
    """Raises `InvalidValue` where a number does not lie in [0, 1)."""
    if not 0 <= value < 1:
        raise InvalidValue(key, value, "must lie in [0, 1)")


def refuse_together(problems: Sequence[str], where: str) -> None:
    """Raises one error for all problems, if there are any: the first are named, the others counted."""
    if not problems:
        return
    if len(problems) == 1:
        raise UserError(problems[0])
    more = [f"and {len(problems) - MOST_PROBLEMS} more"] * (len(problems) > MOST_PROBLEMS)
    lines = [f"    - {problem}" for problem in problems[:MOST_PROBLEMS]] + [f"    {line}" for line in more]
    raise UserError("\n".join([f"{len(problems)} problems with {where}:", *lines]))


def some(names: Iterable[str]) -> str:
    """The first few of a list of names."""
    names = list(names)
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def nearest(word: str, choices: Iterable[str]) -> str:
    """``did you mean 'dim'?``, or the list of choices when none is close."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    containing = [choice for choice in choices if word and word in choice]
    if len(containing) == 1:
        return f"did you mean '{containing[0]}'?"
    return f"choose from: {', '.join(containing or choices)}" if choices else "there is nothing to choose from"
