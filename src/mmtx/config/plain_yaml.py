"""YAML that anybody may have written: plain values, and no more of them than a config has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmtx.errors import UserError

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000


def read_yaml(file: Path) -> Any:
    """What is in a file.

    Raises UserError as `read_texts` does.
    """
    return _read(file, yaml.SafeLoader)


def read_texts(file: Path) -> Any:
    """What is in a file, every value a text as it is written there.

    Raises:
        UserError: it cannot be read, is too large (also by aliases of aliases), names a key twice, or holds anything
            but plain values.
    """
    return _read(file, yaml.BaseLoader)


def _read(file: Path, kind: type[yaml.SafeLoader | yaml.BaseLoader]) -> Any:
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{file} has {size} bytes; a config has at most {MOST_BYTES}")
        loader = kind(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        if _num_values(node, {}) > MOST_VALUES:
            raise UserError(f"{file} stands for more than {MOST_VALUES} values, by aliases of aliases")
        return loader.construct_document(node)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that a node stands for, each alias counted as what it repeats."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # a node that holds itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_num_values(child, known) for child in children)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            problem = f"the key {key.value} stands there twice"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
