"""YAML that anybody may have written: plain values, and no more text than a config has."""

from pathlib import Path
from typing import Any

import yaml

from mmtx.errors import UserError

MOST_BYTES = 1 << 20


class _NoKeyTwice(yaml.constructor.BaseConstructor):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            problem = f"the key {twice} stands there twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class _Values(_NoKeyTwice, yaml.SafeLoader):
    pass


class _Texts(_NoKeyTwice, yaml.BaseLoader):
    pass


def read_yaml(file: Path) -> Any:
    """What is in a file.

    Raises UserError as `read_texts` does.
    """
    return _read(file, _Values)


def read_texts(file: Path) -> Any:
    """What is in a file, every value a text as it is written there.

    Raises:
        UserError: it cannot be read, is too large, names a key twice, or holds anything but plain values.
    """
    return _read(file, _Texts)


def _read(file: Path, loader: type[_Values | _Texts]) -> Any:
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{file} has {size} bytes; a config has at most {MOST_BYTES}")
        return yaml.load(file.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
