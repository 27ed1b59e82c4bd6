"""Stored configs, read again with values changed."""

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmtx.config.compose import compose
from mmtx.config.folders import config_folders
from mmtx.config.migrations import migrated_config
from mmtx.config.plain_yaml import read_yaml
from mmtx.config.redaction import literal
from mmtx.config.schema import Config, defaults
from mmtx.config.values import of_one_config, with_values
from mmtx.errors import ConfigErrors, UserError

BY_THEMSELVES = ("callbacks", "logger")
"""Groups that nothing else in a config depends on: of a stored one, some may be left out."""


def read_or_compose(config_file: str | None, overrides: Sequence[str]) -> Config:
    """A saved config with values changed, or a new one."""
    return compose(overrides) if config_file is None else read_config(config_file, overrides)


def read_config(file: Path | str, overrides: Sequence[str] = ()) -> Config:
    """A saved config with values changed.

    Raises:
        UserError: the file is not a config.
    """
    try:
        config = read_yaml(Path(file))
    except UserError as error:
        raise UserError(f"--config {error}") from None
    if not isinstance(config, dict) or "backbone" not in config:
        raise UserError(f"--config {file} is not the config.yaml of a run")
    return _overridden(completed(migrated_config(config, str(file))), overrides)


def completed(config: Mapping[str, Any]) -> Config:
    """A saved config with the top-level keys that have come since, as ``train.yaml`` has them: their defaults are what
    was done before they came. One line names them."""
    added = {key: value for key, value in defaults().items() if key not in config}
    if added:
        lines = [f"{key}={value}" for key, value in added.items()]
        _print_once(f"mmtx: saved before these keys existed, taken as their defaults: {' '.join(lines)}")
    return {**config, **added}


@cache
def _print_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A resolved config with values changed. Groups cannot be swapped: their files may have changed since.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    return _overridden(literal(config), overrides)


def _overridden(config: Config, overrides: Sequence[str]) -> Config:
    from omegaconf import OmegaConf

    known, found = of_one_config(overrides)
    values, kept = [], dict(config)
    for override in known:
        key, value = override.key_or_group, override.value()
        names = (value or []) if key in BY_THEMSELVES and not override.is_delete() else None
        if isinstance(names, list) and set(map(str, names)) <= set(config.get(key) or {}):
            kept[key] = {name: config[key][name] for name in names}
        elif "/" in key or any((folder / key).is_dir() for folder in config_folders()):
            found.append(f"{override.input_line} swaps a group of a saved config; only values (a.b=c) can be changed")
        else:
            values.append(override)
    if found:
        raise ConfigErrors(found)
    return with_values(OmegaConf.create(kept), values)
