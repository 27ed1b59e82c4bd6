"""What stands on the command line: paths, a command's own options, and overrides of a config."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from mmtx.config.overrides import OF_A_SWEEP, read_path, read_value
from mmtx.errors import UserError, nearest
from mmtx.hub.address import is_address

OVERRIDE = re.compile(r"[^=]*=|~[^/]")
"""How an override begins: ``key=``, or the ``~`` of a key that is removed, which is no home directory."""


class Paths(NamedTuple):
    """How many files and folders a command takes, and the error where it is given others."""

    least: int
    most: int | None
    wanted: str

    def check(self, paths: Sequence[str]) -> None:
        too_many = self.most is not None and len(paths) > self.most
        if too_many or len(paths) < self.least or any(path.startswith("-") for path in paths):
            raise UserError(self.wanted)


RUN = Paths(1, 1, "name one run directory or checkpoint, and then key=value")
RUNS = Paths(1, None, "name at least one directory of a run or a sweep")


def parse(
    arguments: Sequence[str], paths: Paths, known: Collection[str] | None, texts: Collection[str] = ()
) -> tuple[list[str], dict[str, Any], list[str]]:
    """The paths, the options that are given, and the other arguments of the form ``key=value``.

    Args:
        arguments: behind the command.
        paths: that the command takes; a sweep names the folders of its jobs by their overrides, ``seed=1``.
        known: the options; None: every key is one.
        texts: options that are taken as they are written; the others are values as in an override.
    """
    found = [argument for argument in arguments if not OVERRIDE.match(argument) or os.path.exists(argument)]
    if len(found) < paths.least and arguments and "=" in arguments[0]:  # or it is a folder of a job that is gone
        raise UserError(f"{paths.wanted}; there is no {arguments[0]}")
    paths.check(found)
    options: dict[str, Any] = {}
    others = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument in found:
            continue
        if known is not None and key not in known:
            others.append(argument)
        else:
            options[key] = value if key in texts else read_value(key, value)
    return found, options, others


def parse_for(function: Callable[..., Any], arguments: Sequence[str], paths: Paths) -> tuple[list[str], dict[str, Any]]:
    """The paths, and the options that a function takes, checked against its signature."""
    from mmtx.config.options import checked, options_of

    options = options_of(function)
    found, given, others = parse(arguments, paths, options, [key for key, each in options.items() if each.is_text])
    refuse(others, options)
    return found, checked(given, options)


def refuse(others: Sequence[str], known: Collection[str]) -> None:
    """Raises `UserError` for the first argument that is no option of a command, if there is one."""
    if others:
        raise UserError(f"unknown key {others[0]}; {nearest(others[0].partition('=')[0], known)}")


def take(arguments: Sequence[str], flag: str, needs: str) -> tuple[str | None, list[str]]:
    """The value of ``--flag VALUE`` or ``--flag=VALUE``, and the other arguments."""
    value, others, rest = None, [], iter(arguments)
    for argument in rest:
        name, equals, own = argument.partition("=")
        if name != flag:
            others.append(argument)
            continue
        value = own if equals else next(rest, None)
        if value is None:
            raise UserError(f"{flag} needs {needs}")
    return value, others


def parse_run(arguments: Sequence[str]) -> tuple[str | None, bool, list[str], str | None]:
    """The file of ``--config FILE``, whether there is ``-m``, the overrides, and the directory of ``run_dir=``."""
    config_file, others = take(arguments, "--config", "a file: --config RUN/config.yaml")
    if config_file is not None and is_address(config_file):
        from mmtx.run.directory import path_of

        config_file = str(path_of(config_file) / "config.yaml")
    overrides, run_dir = [], None
    for argument in others:
        key, equals, value = argument.partition("=")
        if argument in ("-m", "--multirun"):
            continue
        if argument.startswith("-") or (not equals and not argument.startswith("~")):
            raise UserError(f"cannot read '{argument}'; choices and values are given as key=value")
        if key.lstrip("+") in ("run_dir", "hydra.run.dir", "hydra.sweep.dir"):
            run_dir = read_path(key, value)
        else:
            overrides.append(argument)
    is_sweep = "-m" in others or "--multirun" in others
    for override in overrides if not is_sweep else ():
        if OF_A_SWEEP.match(override) or override.lstrip("+").startswith("sweep="):
            raise UserError(f"{override} belongs to a sweep; add -m, or leave it out")
    return config_file, is_sweep, overrides, run_dir
