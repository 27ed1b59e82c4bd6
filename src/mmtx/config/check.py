"""What can be wrong with a config, found before anything is built: unknown keys, missing keys, wrong types."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.config.migrations import moved
from mmtx.config.redaction import is_in_clear
from mmtx.errors import UserError, nearest

TRUSTED = ("mmtx", "torch.nn", "torch.optim", "torchvision.transforms.v2", "lightning.pytorch.callbacks")
"""Whose classes a ``_target_`` may name, besides those of packages that the user lists under ``plugins``."""

PYTHONS = {*sys.stdlib_module_names, "__main__", ""}

RUNTIME = {
    "loader": {"source", "names", "seed", "modality_dropout"},
    "modality": {"spec", "dim"},
    "backbone": {"cross_attention"},
    "encoder": {"cross_attention"},
    "objective": {"specs", "model"},
}
"""Arguments that mmtx gives to the classes of a group."""


def top_level(
    *,
    name: str,
    data: dict,
    loader: dict,
    modality: dict,
    backbone: dict,
    modality_dropout: dict,
    encode: list[str],
    encoder: dict,
    objective: dict,
    optim: dict,
    trainer: dict,
    checkpoint: dict,
    logger: dict,
    callbacks: dict,
    type_embeddings: bool,
    clocks: dict,
    seed: int,
    log_every_steps: int,
    run_dir: str | None,
    hint: str | None,
    plugins: list[str],
    init_from: str | None = None,
    freeze: list[str] | None = None,
    lora: dict | None = None,
) -> None:
    """The keys at the top of a config. Their defaults stand in ``conf/train.yaml``; older runs lack the last."""


def resolve(target: str, plugins: Sequence[str] = ()) -> type:
    """The class that a ``_target_`` names.

    Raises:
        UserError: it is not a class, or its package is not trusted; nothing of that package is then imported. Python's
            own modules are never trusted: a file could start any program with them.
    """
    own = [plugin for plugin in plugins if plugin.partition(".")[0] not in PYTHONS]

    def is_of(packages: Sequence[str], name: str) -> bool:
        return any(name == package or name.startswith(f"{package}.") for package in packages)

    module_name, _, name = target.rpartition(".")
    if not is_of((*TRUSTED, *own), module_name):
        root = target.partition(".")[0]
        hint = "" if root in PYTHONS else f"; if you trust the package, add plugins=[{root}]"
        raise UserError(f"_target_={target} is not a class of mmtx{hint}")
    if is_of(own, module_name):
        _look_where_mmtx_was_started()
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, ValueError) as error:
        raise UserError(f"_target_={target} cannot be imported: {error}") from None
    except AttributeError:
        classes = [known for known in dir(importlib.import_module(module_name)) if known[:1].isupper()]
        raise UserError(f"_target_={target}: {module_name} has no {name}; {nearest(name, classes)}") from None
    if not inspect.isclass(found) or not is_of((*TRUSTED, *own), found.__module__):
        raise UserError(f"_target_={target} is not a class of its package")
    return found


def _look_where_mmtx_was_started() -> None:
    """A user's package may lie in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@dataclass(frozen=True)
class Finding:
    """Something wrong with a config.

    Attributes:
        path: the key, from the top.
        message: for the user.
        unknown: the key belongs to nobody, so that the rest can be looked at without it.
    """

    path: str
    message: str
    unknown: bool = False


def findings(config: Mapping[str, Any]) -> list[Finding]:
    """Everything that the signatures of the named classes say is wrong with a config.

    Args:
        config: the whole tree, resolved.
    """
    found = list(_signature_findings(config, top_level, path="", runtime=set(), partial=False))
    plugins = packages(config)
    for group, node in config.items():
        if group == "encoder":
            node = encoder_node(config)
        if isinstance(node, Mapping):
            found += _node_findings(node, str(group), RUNTIME.get(str(group), set()), plugins)
    found += _missing_packages(plugins)
    found += _secrets_in_clear(config, "")
    of_backbone = {finding.path.partition(".")[2] for finding in found if finding.path.startswith("backbone.")}
    return [  # what the encoder has from the backbone is said of the backbone
        finding
        for finding in found
        if not (finding.path.startswith("encoder.") and finding.path.partition(".")[2] in of_backbone)
    ]


def packages(config: Mapping[str, Any]) -> list[str]:
    """Those that the user lists under ``plugins``; none where that is no list of names, which is a finding."""
    given = config.get("plugins")
    return [plugin for plugin in given if isinstance(plugin, str)] if isinstance(given, list) else []


def _missing_packages(plugins: Sequence[str]) -> Iterator[Finding]:
    if plugins:
        _look_where_mmtx_was_started()
    for plugin in plugins:
        root = plugin.partition(".")[0]
        if root not in sys.modules and (not root or importlib.util.find_spec(root) is None):
            hint = "install it, or start mmtx in the folder that holds it"
            yield Finding("plugins", f"plugins=[{plugin}] names a package that is not there: {hint}")


def _secrets_in_clear(node: Any, path: str) -> Iterator[Finding]:
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        where = f"{path}.{key}" if path else str(key)
        if is_in_clear(str(key), child):
            hint = f"export MY_TOKEN=... and give {where}='${{oc.env:MY_TOKEN}}'"
            yield Finding(where, f"{where} is a secret, and a run saves its config: {hint}")
        yield from _secrets_in_clear(child, where)


def node_findings(node: Mapping[str, Any], path: str, runtime: set[str], plugins: Sequence[str] = ()) -> list[Finding]:
    """The same for a node that stands beside a run's config; `runtime` are arguments that mmtx gives."""
    return list(_node_findings(node, path, runtime, plugins))


def encoder_node(config: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's config: that of the backbone, with what stands under ``encoder`` in its place."""
    return _merged(config.get("backbone"), config.get("encoder"))


def _merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`; a part that names a class of its own replaces the whole part."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping) or "_target_" in over:
        return over
    return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in over.items()}}


def _node_findings(node: Any, path: str, runtime: set[str], plugins: Sequence[str]) -> Iterator[Finding]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            try:
                target = resolve(str(node["_target_"]), plugins)
            except UserError as error:
                yield Finding(path, f"{path}: {error}")
                return
            yield from _signature_findings(node, target, path, runtime, bool(node.get("_partial_")))
            runtime = set()
        for key, child in node.items():
            yield from _node_findings(child, f"{path}.{key}", runtime, plugins)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from _node_findings(child, f"{path}[{index}]", set(), plugins)


def _signature_findings(
    node: Mapping[str, Any], target: Callable[..., Any], path: str, runtime: set[str], partial: bool
) -> Iterator[Finding]:
    parameters, hints = _parameters(target), argument_types(target)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    prefix = f"{path}." if path else ""
    for key, value in node.items():
        where = f"{prefix}{key}"
        if key in ("_target_", "_partial_"):
            continue
        if key not in parameters or key in runtime:
            if not open_ended:
                yield Finding(where, _unknown(where, value, set(parameters) - runtime), unknown=True)
        elif key in hints and not conforms(value, hints[key]):
            yield Finding(
                where, f"{where}={_shown(value)} is not {describe(hints[key])}{_as_text(where, value, hints[key])}"
            )
    if not partial:
        for key, parameter in parameters.items():
            needed = parameter.default is inspect.Parameter.empty and parameter.kind not in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
            missing = (needed and key not in node) or node.get(key) == "???"
            if missing and key not in runtime:
                yield Finding(f"{prefix}{key}", f"{prefix}{key} is missing; give {prefix}{key}=...")


def _unknown(path: str, value: Any, choices: set[str]) -> str:
    new = moved(path)
    if new is not None:
        return f"{path}={_shown(value)} has moved; write {new}={_shown(value)}"
    return f"unknown key {path}={_shown(value)}; {nearest(path.rpartition('.')[2], choices)}"


@functools.cache
def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


@functools.cache
def argument_types(target: Callable[..., Any]) -> dict[str, Any]:
    """What the arguments of a class or function are said to be; nothing where that cannot be found out."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        return {}


def as_annotated(value: Any, annotation: Any) -> Any:
    """An integer where a float belongs becomes one, also in a list: YAML cannot tell ``20`` from ``20.0``."""
    accepted = [annotation, *typing.get_args(annotation)]
    if isinstance(value, list) and list[float] in accepted:
        return [as_annotated(item, float) for item in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_integer and float in accepted and int not in accepted else value


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
    """A type as people say it."""
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


def _as_text(where: str, value: Any, annotation: Any) -> str:
    """How to write a number as the text that belongs there; nothing where that is not what is wrong."""
    is_number = isinstance(value, int | float) and value is not True and value is not False
    if not is_number or not conforms(str(value), annotation):
        return ""
    typed = shlex.quote(f"{where}='{value}'")
    return f"; as a text: {typed}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "{...}" if isinstance(value, Mapping) else str(value)
