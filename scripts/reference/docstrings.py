"""Lines of arguments, as docstrings have them."""

import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache

from mmtx.config.options import ARGUMENT

SHARED = re.compile(r"The other keys are those of ((?:`\w+`(?: and )?)+)")


@cache
def argument_lines(target: type) -> dict[str, str]:
    """By argument, its line in the ``Args`` of the class, of its bases in mmtx, and of the classes they refer to."""
    found: dict[str, str] = {}
    for owner in _documented(target):
        section = inspect.cleandoc(owner.__doc__ or "").partition("Args:\n")[2]
        for name, text in ARGUMENT.findall(section):
            found.setdefault(name, re.sub(r"(?<!\.)\.$", "", " ".join(text.split())))
    return found


def _documented(target: type) -> Iterator[type]:
    for owner in target.__mro__:
        if owner.__module__.startswith("mmtx."):
            yield owner
            shared = SHARED.search(" ".join((owner.__doc__ or "").split()))
            for name in re.findall(r"\w+", shared[1].replace(" and ", " ") if shared else ""):
                yield from _documented(getattr(sys.modules[owner.__module__], name))
