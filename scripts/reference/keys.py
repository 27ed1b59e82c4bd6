"""The keys of a choice, each with its default, what it may be, and one line."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reference.docstrings import argument_lines
from reference.files import File, comments_of, place_of

from mmtx.config.folders import config_directory
from mmtx.config.schema import defaults, top_level
from mmtx.config.targets import argument_types, resolve
from mmtx.config.value_types import describe

OF_POLICY = "mmtx.sweep.FailurePolicy"
"""Whose keys the launchers share; their file names no class."""

OF_A_VALUE = re.compile(r"(null|true|or)\b")
"""How a comment begins that only says what another value does."""


class Key(NamedTuple):
    """A key.

    Attributes:
        path: as it is written on a command line.
        default: a value of YAML.
        kind: what it may be, in words.
        line: what it is; empty where neither a comment nor a docstring has it.
    """

    path: str
    default: Any
    kind: str
    line: str


def keys_of(file: File) -> list[Key]:
    """What a choice sets itself, parts of other groups left out."""
    node = {"_target_": OF_POLICY, **file.node} if file.group == "launcher/policy" else file.node
    prefix = place_of(file.group)
    return [key._replace(path=f"{prefix}.{key.path}") for key in _of_node(file, node, file.own, "")]


def own_keys() -> Iterator[Key]:
    """The keys of no group, as ``conf/train.yaml`` has them."""
    file, types = File("", "train", None, {}, defaults(), comments_of(config_directory() / "train.yaml")), top_level()
    for name, value in file.own.items():
        yield Key(name, value, in_words(types[name]), file.comment(name))
        if _holds_keys(value, is_argument=True):
            yield from _of_node(file, value, value, f"{name}.")


def _of_node(file: File, node: Mapping[str, Any], own: Mapping[str, Any], prefix: str) -> Iterator[Key]:
    """Keys of a node and of those below it; a mapping without a class, such as the one of a modality, is no key."""
    target = resolve(node["_target_"], ["optuna"]) if "_target_" in node else None
    lines = argument_lines(target) if target else {}
    types = argument_types(target) if target and target.__module__.startswith("mmtx.") else {}  # others' may change
    for name, value in own.items():
        path, child = f"{prefix}{name}", node[name]
        if name.startswith("_"):
            continue
        if target or not isinstance(child, Mapping):
            yield Key(path, value, _kind(types.get(name), value), _line(file.comment(path), lines.get(name, "")))
        if _holds_keys(child, bool(target)):
            yield from _of_node(file, child, value, f"{path}.")


def _line(comment: str, of_docstring: str) -> str:
    """The comment, which is written for users, unless it says less."""
    return of_docstring if of_docstring and OF_A_VALUE.match(comment) else comment or of_docstring


def _holds_keys(node: Any, is_argument: bool) -> bool:
    """Whether keys of a node are listed: of classes of mmtx, and of what no class takes."""
    if not isinstance(node, Mapping):
        return False
    if "_target_" in node:
        return not is_argument or node["_target_"].startswith(("mmtx.", "torch.optim."))
    return not is_argument or any(isinstance(child, Mapping) for child in node.values())


def _kind(annotation: Any, value: Any) -> str:
    return in_words(type(value) if annotation in (None, Any) else annotation)


def in_words(annotation: Any) -> str:
    """A type as the values column has it."""
    return "a mapping" if annotation is dict else describe(annotation).replace("a node with a _target_", "a node")
