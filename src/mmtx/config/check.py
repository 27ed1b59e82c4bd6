"""What can be wrong with a config, found before anything is built: unknown keys, missing keys, wrong types."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.config.migrations import moved, moved_override
from mmtx.config.redaction import is_in_clear
from mmtx.config.schema import GIVEN, OWN_ENCODER, STACKS, stack_node, tokenizer_node, top_level, with_kinds
from mmtx.config.targets import argument_types, look_where_mmtx_was_started, packages, parameters, resolve
from mmtx.config.value_types import as_text, conforms, describe, shown
from mmtx.errors import UserError, nearest


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
    """Everything that is wrong with a config by the types of its keys and the signatures of the classes it names.

    Args:
        config: the whole tree, resolved.
    """
    types = top_level()
    found = [*_unknown_or_wrong(config, types, "", types), *_missing(config, types, "")]
    plugins = packages(config)
    for group, node in config.items():
        if group in STACKS:
            node = stack_node(config, group)
        if group == "modality" and isinstance(node, Mapping):
            found += _of_own_encoders(node, plugins)
            node = {name: tokenizer_node(child) for name, child in node.items()}
        if isinstance(node, Mapping):
            found += node_findings(node, str(group), GIVEN.get(str(group), set()), plugins)
    found += _missing_packages(plugins)
    found += _secrets_in_clear(config, "")
    of_backbone = {finding.path.partition(".")[2] for finding in found if finding.path.startswith("backbone.")}
    return [  # what the encoder has from the backbone is reported of the backbone
        finding
        for finding in found
        if not (finding.path.startswith("encoder.") and finding.path.partition(".")[2] in of_backbone)
    ]


def node_findings(node: Any, path: str, given: set[str], plugins: Sequence[str] = ()) -> Iterator[Finding]:
    """The same for one node; `given` are arguments of its class that are no keys."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            try:
                target = resolve(str(node["_target_"]), plugins)
            except UserError as error:
                yield Finding(path, f"{path}: {error}")
                return
            yield from _signature_findings(node, target, path, given)
            given = set()
        for key, child in node.items():
            yield from node_findings(child, f"{path}.{key}", given, plugins)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from node_findings(child, f"{path}[{index}]", set(), plugins)


def _of_own_encoders(modality: Mapping[str, Any], plugins: Sequence[str]) -> Iterator[Finding]:
    """Of the encoders that names have to themselves, and of their projectors."""
    for name, node in modality.items():
        for key in OWN_ENCODER if isinstance(node, Mapping) else ():
            yield from node_findings(with_kinds(node.get(key)), f"modality.{name}.{key}", GIVEN[key], plugins)


def _signature_findings(
    node: Mapping[str, Any], target: Callable[..., Any], path: str, given: set[str]
) -> Iterator[Finding]:
    signature = {key: argument for key, argument in parameters(target).items() if key not in given}
    kinds = {argument.kind for argument in signature.values()}
    keys = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    choices = None if inspect.Parameter.VAR_KEYWORD in kinds else signature
    yield from _unknown_or_wrong(keys, argument_types(target), f"{path}.", choices)
    if not node.get("_partial_"):
        open_ended = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        required = (
            key
            for key, argument in signature.items()
            if node.get(key) == "???"
            or (argument.default is inspect.Parameter.empty and argument.kind not in open_ended)
        )
        yield from _missing(node, required, f"{path}.")


def _unknown_or_wrong(
    keys: Mapping[str, Any], types: Mapping[str, Any], prefix: str, choices: Collection[str] | None
) -> Iterator[Finding]:
    """Findings of keys that are there; `choices` None: any may be."""
    for key, value in keys.items():
        path = f"{prefix}{key}"
        if choices is not None and key not in choices:
            yield Finding(path, _unknown(path, value, choices), unknown=True)
        elif key in types and not conforms(value, types[key]):
            problem = f"is not {describe(types[key])}{as_text(path, value, types[key])}"
            yield Finding(path, f"{path}={shown(value)} {problem}")


def _missing(node: Mapping[str, Any], needed: Iterable[str], prefix: str) -> Iterator[Finding]:
    for key in needed:
        if node.get(key, "???") == "???":
            yield Finding(f"{prefix}{key}", f"{prefix}{key} is missing; give {prefix}{key}=...")


def _unknown(path: str, value: Any, choices: Collection[str]) -> str:
    override = f"{path}={shown(value)}"
    if moved(path) is not None:
        return f"{override} has moved; write {moved_override(override)}"
    return f"unknown key {override}; {nearest(path.rpartition('.')[2], choices)}"


def _missing_packages(plugins: Sequence[str]) -> Iterator[Finding]:
    if plugins:
        look_where_mmtx_was_started()
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
