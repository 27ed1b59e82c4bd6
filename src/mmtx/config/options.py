"""Options of a command: the keyword-only parameters of the function that it calls, and their lines of its docstring."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from mmtx.config.construct import as_annotated
from mmtx.config.overrides import written
from mmtx.config.targets import argument_types
from mmtx.config.value_types import conforms, describe
from mmtx.errors import InvalidValue, nearest

REQUIRED = inspect.Parameter.empty
ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""One argument in a docstring's ``Args``, with the lines that go on below it."""


class Option(NamedTuple):
    """One option.

    Attributes:
        annotation: its type.
        default: or `REQUIRED`.
        line: its line in the docstring's ``Args``; empty where there is none.
    """

    annotation: Any
    default: Any
    line: str

    @property
    def is_text(self) -> bool:
        """Whether its value is taken as it is written; others are values as in an override."""
        return conforms("", self.annotation)


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The options that a function, or a dataclass, takes. Where a parameter is a dataclass, they are its fields, whose
    defaults are those of the parameter's default."""
    lines, types = _lines(function), argument_types(function)
    found: dict[str, Option] = {}
    for name, parameter in _parameters(function).items():
        if is_dataclass(types[name]):
            own, inner = _lines(types[name]), argument_types(types[name])
            keys = [field.name for field in fields(types[name])]
            found |= {key: Option(inner[key], getattr(parameter.default, key), own.get(key, "")) for key in keys}
        else:
            found[name] = Option(types[name], parameter.default, lines.get(name, ""))
    return found


def grouped(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options, by the names of the parameters that take them: those that are fields of one dataclass are in it. Others
    stay as they are."""
    types, rest = argument_types(function), dict(given)
    for name, parameter in _parameters(function).items():
        if is_dataclass(types[name]):
            keys = [field.name for field in fields(types[name]) if field.name in rest]
            rest[name] = replace(parameter.default, **{key: rest.pop(key) for key in keys})
    return rest


def options_for(function: Callable[..., Any], given: Any, key: str) -> dict[str, Any]:
    """Keyword arguments of a function, from the mapping that stands under a key; None: none.

    Raises:
        InvalidValue: it is no mapping, an option is none of the function's, or a value cannot be.
    """
    known = options_of(function)
    if not isinstance(given, Mapping | None):
        raise InvalidValue(key, given, "is no mapping of options", f"{key}={{{next(iter(known))}: VALUE}}")
    for option, value in (given or {}).items():
        if option not in known:
            raise InvalidValue(f"{key}.{option}", value, f"is no option; {nearest(option, known)}")
    return grouped(function, checked(given or {}, known))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.items()
    return {name: each for name, each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}


def _lines(function: Callable[..., Any]) -> dict[str, str]:
    """Of each argument, its line of the docstring."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2]
    return {name: " ".join(text.split()) for name, text in ARGUMENT.findall(section)}


def checked(given: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """Values as the types have them. Raises InvalidValue for the first that does not conform."""
    values = {}
    for key, value in given.items():
        annotation = options[key].annotation
        try:
            values[key] = as_annotated(value, annotation)
            is_one = conforms(values[key], annotation)
        except OverflowError:  # an integer that no float holds
            is_one = False
        if not is_one:
            raise InvalidValue(key, written(value), f"is not {describe(annotation)}")
    return values


def described(options: Mapping[str, Option]) -> str:
    """Each option with its default, its type and its line of the docstring."""
    rows = [
        (f"{key}={'...' if o.default is REQUIRED else written(o.default)}", describe(o.annotation), o.line)
        for key, o in options.items()
    ]
    first, second = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return "\n".join(f"  {assigned:<{first}}  {kind:<{second}}  {line}" for assigned, kind, line in rows)
