"""What the keys of a config are: those of ``conf/train.yaml``, and the arguments of the classes that it names."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from mmtx.config.folders import config_directory
from mmtx.config.plain_yaml import read_yaml

Config = dict[str, Any]

GIVEN = {
    "loader": {"source", "names", "seed", "modality_dropout", "cores"},
    "modality": {"spec", "dim"},
    "backbone": {"cross_attention"},
    "encoder": {"cross_attention"},
    "projector": {"from_dim", "dim", "extent"},
    "objective": {"specs", "model"},
}
"""Arguments that `mmtx.experiment` gives to the classes of a group; their other arguments are keys."""


def defaults() -> Config:
    """The top-level keys that are no groups, as ``conf/train.yaml`` has them."""
    content: Config = {**read_yaml(config_directory() / "train.yaml")}
    del content["defaults"]
    return content


def _choices() -> Config:
    """What is chosen of each group by default. An experiment is laid over the others, and no part of the result."""
    entries = read_yaml(config_directory() / "train.yaml")["defaults"]
    return {key: entry[key] for entry in entries if isinstance(entry, dict) for key in entry if key != "experiment"}


@cache
def may_be_null() -> list[str]:
    """Groups of which nothing need be chosen."""
    return [group for group, choice in _choices().items() if choice is None]


@cache
def top_level() -> dict[str, Any]:
    """The types of the top-level keys: of a group, a mapping, or null where it may be left out; of another key, the
    type of its default. A default of null stands for a text that may be left out."""
    types: dict[str, Any] = {group: dict if choice else dict | None for group, choice in _choices().items()}
    named = {type(None): str | None, list: list[str]}
    own = {key: named.get(type(value), type(value)) for key, value in defaults().items()}
    return types | own | {"init_from": str | dict[str, str] | None}


STACKS = ("backbone", "encoder")


def stack_node(config: Mapping[str, Any], stack: str) -> Any:
    """The config of a stack; the encoder's is that of the backbone, with what stands under ``encoder`` in its place."""
    backbone = config.get("backbone")
    return with_kinds(_merged(backbone, config["encoder"]) if stack == "encoder" else backbone)


OWN_ENCODER = ("encoder", "projector")
"""Keys of a name of the set that are no arguments of its tokenizer: its own encoder, and what follows that."""


def tokenizer_node(node: Any) -> Any:
    """The config of a name's tokenizer, without that of its own encoder."""
    return {key: value for key, value in node.items() if key not in OWN_ENCODER} if isinstance(node, Mapping) else node


def with_kinds(node: Any) -> Any:
    """The config of a stack, whose kinds of layers, and their parts, which wait for a width, need not say so."""
    if not isinstance(node, Mapping) or not isinstance(node.get("kinds"), Mapping):
        return node
    return {**node, "kinds": {letter: _kind(kind) for letter, kind in node["kinds"].items()}}


def objective_node(node: Any) -> Any:
    """The config of an objective, whose own stacks are as `with_kinds` has them."""
    return {key: with_kinds(value) for key, value in node.items()} if isinstance(node, Mapping) else node


WAITING = ("mixer", "mlp")
"""Parts of a kind of layer that are made for a width."""


def _kind(kind: Any) -> Any:
    if not isinstance(kind, Mapping):
        return kind
    waits = {key: {"_partial_": True, **kind[key]} for key in WAITING if isinstance(kind.get(key), Mapping)}
    parts = {**kind, **waits}
    return {"_target_": "mmtx.nn.LayerKind", **parts}


def _merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`; a part that names a class of its own replaces the whole part."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping) or "_target_" in over:
        return over
    return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in over.items()}}
