"""Values of overrides, laid over a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmtx.config import check
from mmtx.config.groups import NAMED_GROUPS
from mmtx.config.hydra_session import register_resolvers
from mmtx.config.overrides import read
from mmtx.config.schema import Config, may_be_null
from mmtx.errors import ConfigErrors, UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


def of_one_config(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
    """The overrides that one config can have, and what is wrong with the others."""
    known, found = [], []
    for text in overrides:
        try:
            override = read(text)
        except UserError as error:
            found.append(str(error))
            continue
        if override.key_or_group.partition(".")[0].partition("/")[0] == "hydra":
            found.append(f"{text} is nothing that mmtx does; {OF_HYDRA}")
        elif override.is_sweep_override():
            found.append(f"{text} names several values: that is a sweep, mmtx train -m")
        else:
            known.append(override)
    return known, found


OF_HYDRA = (
    "of Hydra's own settings it takes hydra.run.dir and hydra.sweep.dir, which are run_dir, and with -m those of "
    "hydra/launcher and hydra/sweeper; name=NAME names a run"
)


def with_values(config: DictConfig, overrides: Sequence[Override]) -> Config:
    """A config with values laid over it, in their order, and then resolved.

    Raises:
        ConfigErrors: with every value that is wrong.
    """
    from omegaconf import OmegaConf

    register_resolvers()
    found: list[str] = []
    for override in overrides:
        try:
            _lay_over(config, override)
        except Exception as error:  # OmegaConf raises many kinds
            found.append(f"cannot apply {override.input_line}: {' '.join(str(error).split())}")
    if found:
        raise ConfigErrors(found)
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
    except Exception as error:
        raise ConfigErrors([" ".join(str(error).split())]) from None
    for group in may_be_null():
        resolved.setdefault(group, None)
    found += _drop_unchosen(resolved, [override.key_or_group for override in overrides])
    if found:
        raise ConfigErrors([*found, *(finding.message for finding in check.findings(resolved))])
    return resolved


def _lay_over(config: DictConfig, override: Override) -> None:
    """What Hydra does with a value, but that ``key=value`` may also be new: whether anything takes it is for `check`.

    Raises:
        ValueError: Hydra refuses it.
    """
    from omegaconf import OmegaConf, open_dict

    key, value = override.key_or_group, override.value()
    if override.package is not None:
        raise ValueError(f"there is no group {key}, whose choice could be put under {override.package}")
    there = OmegaConf.select(config, key) if override.is_delete() or override.is_add() else None
    if override.is_delete():
        if there is None:
            raise ValueError(f"there is no {key}")
        if value is not None and value != there:
            raise ValueError(f"{key} is {there}")
        parent, _, last = key.rpartition(".")
        with open_dict(config):
            del (OmegaConf.select(config, parent) if parent else config)[last]
    elif override.is_add() and there is not None and not isinstance(value, dict | list):
        raise ValueError(f"{key} is there, as {there}; {key}=... changes it")
    else:
        OmegaConf.update(config, key, value, merge=True, force_add=True)


def _drop_unchosen(config: Config, values: Sequence[str]) -> Iterator[str]:
    """Recipes may set keys of names that are then not chosen: those go. The user may not: that is a finding."""
    for group in NAMED_GROUPS:
        nodes = config.get(group) or {}
        config[group] = nodes
        for name in [name for name, node in nodes.items() if not isinstance(node, dict) or "_target_" not in node]:
            given = [key for key in values if key == f"{group}.{name}" or key.startswith(f"{group}.{name}.")]
            present = [other for other in nodes if other != name]
            for key in given:
                yield f"unknown key {key}: {name} is not in {group}=[{','.join(present)}]; {nearest(name, present)}"
            del nodes[name]
