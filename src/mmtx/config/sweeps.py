"""Overrides of a sweep: files of them, what ranges over several values, and the nodes that run it."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mmtx.config.folders import config_folders
from mmtx.config.groups import group_options, unknown_choices
from mmtx.config.hydra_session import HydraSession, compose_files
from mmtx.config.overrides import MOST_VALUES, lines, read_all
from mmtx.config.plain_yaml import read_texts
from mmtx.config.schema import Config
from mmtx.errors import ConfigErrors, UserError


def with_sweep_files(overrides: Sequence[str]) -> list[str]:
    """Overrides in Hydra's grammar, in which ``sweep=NAME`` is replaced by the lines of ``sweep/NAME.yaml``, but for
    keys that are given beside it.

    Raises:
        ConfigErrors: there is no such file, or an override cannot be read.
    """
    given = {text.partition("=")[0].lstrip("+~") for text in overrides}
    expanded: list[str] = []
    for override in read_all(overrides):
        if override.key_or_group == "sweep" and not override.is_delete():
            name = override.value()
            name = name if isinstance(name, str) else override.get_value_string()
            expanded += [line for key, line in _sweep_lines(name) if key not in given]
        else:
            expanded.append(str(override.input_line))
    return expanded


def _sweep_lines(name: str) -> Iterator[tuple[str, str]]:
    """Keys and overrides of ``sweep/NAME.yaml``, whose values are texts of the grammar and not YAML's."""
    files = {
        file.stem: file for folder in reversed(config_folders()) for file in sorted((folder / "sweep").glob("*.yaml"))
    }
    if name not in files:
        raise ConfigErrors(list(unknown_choices("sweep", name, list(files))))
    content = read_texts(files[name])
    if not isinstance(content, dict):
        raise UserError(f"{files[name]} is no list of overrides, with key: value in every line")
    for key, value in content.items():
        yield key, f"{key}={_in_grammar(value)}"


def _in_grammar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_in_grammar, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_in_grammar(inner)}' for key, inner in value.items())}}}"
    return str(value)


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the values of a sweep, the last override changing fastest. Where a key is given again, the
    values before are not tried.

    Raises:
        ConfigErrors: with every override that cannot be read, or does not range over values that can be counted.
    """
    choices, found = [], []
    known = read_all(overrides)
    last = {override.get_key_element(): index for index, override in enumerate(known)}
    for index, override in enumerate(known):
        if override.is_sweep_override() and last[override.get_key_element()] != index:
            continue
        try:
            choices.append(lines(override, group_options))
        except UserError as error:
            found.append(str(error))
    num_jobs = math.prod(map(len, choices))
    if num_jobs > MOST_VALUES:
        found.append(f"the sweep has {num_jobs} jobs; at most {MOST_VALUES} are planned at once")
    if found:
        raise ConfigErrors(found)
    return [list(job) for job in itertools.product(*choices)]


def compose_node(group: str, name: str, overrides: Sequence[str]) -> Config:
    """The config of what runs a sweep, from ``launcher=NAME`` and ``launcher.key=value``.

    Args:
        group: ``launcher`` or ``sweeper``.
        name: of its file, unless an override chooses another.
        overrides: without Hydra's name before them.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    from omegaconf import OmegaConf

    values = []
    for override in read_all(overrides):
        text = str(override.input_line)
        if override.is_sweep_override():
            raise ConfigErrors([f"hydra.{text} names several values; a sweep has one {group}"])
        if override.key_or_group == group:
            name = str(override.value())
        else:
            values.append(text if "/" in override.key_or_group else "++" + text.lstrip("+"))
    with HydraSession() as loader:
        found = list(unknown_choices(f"hydra/{group}", name, loader.get_group_options(group)))
        for override in read_all(values):
            part = override.key_or_group
            if "/" in part and not override.is_delete():
                found += unknown_choices(f"hydra/{part}", override.value(), loader.get_group_options(part))
        if found:
            raise ConfigErrors(found)
        try:
            config = OmegaConf.to_container(compose_files(values, f"{group}/{name}"), resolve=True)
        except Exception as error:  # as above
            raise ConfigErrors([" ".join(str(error).split())]) from None
    assert isinstance(config, dict)
    return config[group]
