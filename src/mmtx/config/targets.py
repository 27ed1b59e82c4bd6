"""The classes that a ``_target_`` may name."""

import functools
import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmtx.errors import UserError, nearest

TRUSTED = (
    *("mmtx", "torch.nn", "torch.optim", "torchvision.transforms.v2"),
    *("lightning.pytorch.callbacks", "lightning.pytorch.loggers"),
)
"""Whose classes a ``_target_`` may name, besides those of packages that the user lists under ``plugins``."""

PYTHONS = {*sys.stdlib_module_names, "__main__", ""}


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
        look_where_mmtx_was_started()
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


def look_where_mmtx_was_started() -> None:
    """A user's package may lie in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def packages(config: Mapping[str, Any]) -> list[str]:
    """Those that the user lists under ``plugins``; none where that is no list of names, which is a finding."""
    given = config.get("plugins")
    return [plugin for plugin in given if isinstance(plugin, str)] if isinstance(given, list) else []


@functools.cache
def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


@functools.cache
def argument_types(target: Callable[..., Any]) -> dict[str, Any]:
    """What the arguments of a class or function are declared to be; nothing where that cannot be found out."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        return {}
