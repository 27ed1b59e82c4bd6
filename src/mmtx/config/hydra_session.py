"""Hydra with the folders of configs: what composes yaml files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtx.config.folders import config_directory
from mmtx.errors import UserError


class HydraSession:
    """Hydra with the packaged configs, and a ``conf`` folder of the working directory beside them."""

    def __enter__(self) -> Any:
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra

        register_resolvers()
        self._global = GlobalHydra.instance()
        self._global.clear()
        initialize_config_dir(config_dir=str(config_directory()), version_base="1.3")
        loader = GlobalHydra.instance().config_loader()
        own = Path.cwd() / "conf"
        if own.is_dir() and own != config_directory():
            # before the packaged ones: a user's file of the same name wins
            loader.get_search_path().prepend(provider="user", path=f"file://{own}")
            loader.repository.initialize_sources(loader.get_search_path())  # type: ignore[attr-defined]
        return loader

    def __exit__(self, *_: object) -> None:
        self._global.clear()  # imports nothing: it may be the end of the program


def register_resolvers() -> None:
    """Makes ``${now:...}`` and Hydra's others known, and our own: a saved config is read without Hydra, and has them
    too."""
    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf

    setup_globals()
    OmegaConf.register_new_resolver("in_set", _in_set, replace=True)
    OmegaConf.register_new_resolver("readers_of", _readers_of, replace=True)


def compose_files(overrides: Sequence[str], config_name: str = "train") -> Any:
    """Raises UserError where Hydra fails in an assertion of its own, without a message: a list of `defaults` has
    another entry behind an `override` whose value is a list."""
    from hydra import compose as hydra_compose

    try:
        return hydra_compose(config_name, overrides=list(overrides))
    except AssertionError as error:
        problem = "a list of `defaults` is in the wrong order: its `override` entries stand behind all others"
        raise UserError(problem) from error


def _in_set(name: str, *, _root_: Any) -> bool:
    """``${in_set:NAME}``: whether a name was chosen for the set, for data that is made only where it is wanted."""
    return "_target_" in (_root_.modality.get(name) or {})


PREDICTED = ("label", "target", "rejected")
"""Keys of an objective that name what it reads besides the set."""
SLICES = "mmtx.objectives.Slices"
"""What reads the names of the key ``slices``."""


def _readers_of(group: str, *, _root_: Any) -> dict[str, str]:
    """``${readers_of:modality}``, ``${readers_of:objective}``: the classes of a group by the names that they read, for
    data whose columns are of the kind that what reads them needs."""
    nodes = {name: node for name, node in (_root_.get(group) or {}).items() if "_target_" in (node or {})}
    if group == "modality":
        return {name: node["_target_"] for name, node in nodes.items()}
    read = [(node.get(key), node["_target_"]) for node in nodes.values() for key in PREDICTED]
    sliced = [(name, SLICES) for node in nodes.values() for name in node.get("slices") or []]
    predicted = {name: target for name, target in read if isinstance(name, str)}
    return {**predicted, **{name: target for name, target in sliced if name not in predicted}}
