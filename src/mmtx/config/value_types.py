"""Whether a value of YAML is of a type, and what the two are called in a message."""

import inspect
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any


def conforms(value: Any, annotation: Any) -> bool:
    """Whether a value from YAML fits a type annotation. What YAML cannot express fits if it is a ``_target_``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if value == "???":
        return True  # reported as missing
    if annotation in (Any, inspect.Parameter.empty):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN is no number
    if annotation is str:
        return isinstance(value, str)
    container = origin or annotation
    if container in (list, tuple, set, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if container is tuple and arguments and arguments[-1] is not ...:
            return len(value) == len(arguments) and all(map(conforms, value, arguments))
        return not arguments or all(conforms(item, arguments[0]) for item in value)
    if container in (dict, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    return isinstance(container, type) and isinstance(value, container)


def describe(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    words: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        None: "null",
    }
    if annotation in words:
        return words[annotation]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if (origin or annotation) in (list, tuple, Sequence):
        plural = {int: "integers", float: "numbers", str: "texts"}.get(arguments[0]) if arguments else None
        if arguments and typing.get_origin(arguments[0]) is typing.Literal:
            return f"a list that may hold {', '.join(map(str, typing.get_args(arguments[0])))}"
        return f"a list of {plural}" if plural else "a list"
    return "a node with a _target_" if origin not in (dict, Mapping) else "a mapping"


def as_text(where: str, value: Any, annotation: Any) -> str:
    """How to write a number as the text that belongs there; nothing where that is not what is wrong."""
    is_number = isinstance(value, int | float) and value is not True and value is not False
    if not is_number or not conforms(str(value), annotation):
        return ""
    typed = shlex.quote(f"{where}='{value}'")
    return f"; as a text: {typed}"


def shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "{...}" if isinstance(value, Mapping) else str(value)
