"""The objects that a config describes."""

import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from mmtx.config.targets import argument_types, resolve
from mmtx.errors import InvalidValue

Kind = typing.TypeVar("Kind")
Entering = Callable[[str], AbstractContextManager[Any]]


def construct(node: Any, plugins: Sequence[str] = (), entering: Entering = nullcontext, **given: Any) -> Any:
    """The object that a node describes: its ``_target_`` called with its other keys, nested nodes first.

    With ``_partial_: true`` it is a callable that waits for the rest of its arguments.

    Args:
        node: of a config, checked.
        plugins: packages besides mmtx whose classes it may name.
        entering: what surrounds the construction of what stands under a key.
        given: arguments of the outermost class that are no keys.

    Raises:
        InvalidValue: a class refuses a value; its key is relative to the node.
    """
    if isinstance(node, list):
        return [construct(child, plugins, entering) for child in node]
    if not isinstance(node, Mapping):
        return node
    keys = [key for key in node if not str(key).startswith("_")]
    children = {key: _child(key, node[key], plugins, entering) for key in keys}
    if "_target_" not in node:
        return children
    target = resolve(str(node["_target_"]), plugins)
    hints = argument_types(target)
    children = {key: as_annotated(value, hints.get(key)) for key, value in children.items()}
    call = partial(target, **children, **given)
    return call if node.get("_partial_") else call()


def construct_as(
    kind: type[Kind], node: Any, plugins: Sequence[str] = (), entering: Entering = nullcontext, **given: Any
) -> Kind:
    """The object that a node describes. Raises ValueError where it is not of a kind."""
    return of_kind(kind, construct(node, plugins, entering, **given))


def of_kind(kind: type[Kind], made: Any) -> Kind:
    """What was made. Raises ValueError where it is not of a kind."""
    if isinstance(made, dict):
        raise ValueError("has no _target_: nothing is chosen")
    if not isinstance(made, kind):
        raise ValueError(f"_target_ names a {type(made).__name__}; a {kind.__name__} belongs here")
    return made


def _child(key: Any, node: Any, plugins: Sequence[str], entering: Entering) -> Any:
    try:
        with entering(key):
            return construct(node, plugins, entering)
    except InvalidValue as error:
        raise error if error.key.startswith(f"{key}.") else error.under(str(key)) from None


def as_annotated(value: Any, annotation: Any) -> Any:
    """An integer where a float belongs becomes one, also in a list: YAML cannot tell ``20`` from ``20.0``."""
    accepted = [annotation, *typing.get_args(annotation)]
    if isinstance(value, list) and list[float] in accepted:
        return [as_annotated(item, float) for item in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_integer and float in accepted and int not in accepted else value
