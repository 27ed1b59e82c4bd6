"""From yaml files and the command line to one config: the only library file that knows Hydra."""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from mmtx import check
from mmtx.errors import ConfigErrors, UserError, nearest
from mmtx.plain_yaml import read_yaml

Config = dict[str, Any]

NAMED_GROUPS = ("modality", "objective", "callbacks", "logger")
"""Groups of which several may be chosen; each of their files holds one named node."""


def config_directory() -> Path:
    """Where the packaged configs are: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def compose(overrides: Sequence[str]) -> Config:
    """One config from ``train.yaml``, the chosen files and the overrides.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    with Composer() as composer:
        return composer.compose(overrides)


class Composer:
    """Composes the configs of many jobs. Files are read once for each set of choices; values are then put in as Hydra
    does it."""

    def __enter__(self) -> Composer:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self._session = _hydra()
        self._loader = self._session.__enter__()
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._known: dict[tuple[str, ...], Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._session.__exit__()

    def compose(self, overrides: Sequence[str]) -> Config:
        """Raises ConfigErrors with every override that is wrong."""
        from hydra.errors import HydraException

        found: list[str] = []
        choices: list[str] = []
        values: list[Any] = []
        chosen = {text.partition("=")[0].lstrip("+~") for text in overrides}
        if not chosen & {"experiment", "data"}:
            choices.append("experiment=quickstart")
        for text in overrides:
            try:
                override = self._once(("override", text), partial(self._parser.parse_override, text))
            except HydraException as error:
                reason = str(error).splitlines()[0]
                found.append(f"cannot read the override {text!r}: {reason}; quote values with special characters")
                continue
            key = override.key_or_group
            options = self._once(("group", key), partial(self._options, key))
            if key.startswith("hydra"):
                choices.append(text)
            elif override.is_sweep_override():
                found.append(f"{text} names several values: that is a sweep; add -m")
            elif options is not None:
                bad = list(_unknown_choices(key, override.value(), options))
                found += bad
                if not bad:
                    choices.append(text)
            elif override.is_delete():
                choices.append(text)
            else:
                values.append(override)
        config: Config = {}
        try:
            config = self._merged(choices, values)
        except Exception as error:  # Hydra and OmegaConf raise many kinds; all mean that the config is wrong
            found.append(" ".join(str(error).split()))
        if config:
            found += _drop_unchosen(config, [value.key_or_group for value in values])
            found += [finding.message for finding in check.findings(config)] if found else []
        if found:
            raise ConfigErrors(found)
        return config

    def _merged(self, choices: list[str], values: list[Any]) -> Config:
        from omegaconf import OmegaConf

        if any(text.startswith("~") for text in choices) or any(value.package for value in values):
            # their order among the values matters, or they are no values: to Hydra in one piece
            choices, values = [*choices, *("++" + value.input_line.lstrip("+") for value in values)], []
        # a pickle is a copy that takes a fifth of the time
        composed = pickle.loads(self._once(("config", *choices), lambda: pickle.dumps(_compose(choices))))
        for value in values:
            OmegaConf.update(composed, value.key_or_group, value.value(), merge=True, force_add=True)
        config = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(config, dict)
        return config  # type: ignore[return-value]

    def _options(self, key: str) -> list[str] | None:
        """What there is to choose from where a key is a group; None where it is a value."""
        options: list[str] = self._loader.get_group_options(key)
        return options if options or self._loader.list_groups(key) else None

    def _once(self, what: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if what not in self._known:
            self._known[what] = make()
        return self._known[what]


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

    with _hydra() as loader:
        values = []
        for text in overrides:
            key, _, value = text.partition("=")
            if key == group:
                name = value
            else:
                values.append(text if "/" in key else "++" + text.lstrip("+"))
        known = loader.get_group_options(group)
        if name not in known:
            raise ConfigErrors(list(_unknown_choices(f"hydra/{group}", name, known)))
        try:
            config = OmegaConf.to_container(_compose(values, f"{group}/{name}"), resolve=True)
        except Exception as error:  # as above
            raise ConfigErrors([" ".join(str(error).split())]) from None
    assert isinstance(config, dict)
    return config[group]


def with_sweep_files(overrides: Sequence[str]) -> list[str]:
    """Overrides in which ``sweep=NAME`` is replaced by the lines of ``sweep/NAME.yaml``, but for keys that are given
    beside it.

    Raises:
        ConfigErrors: there is no such file.
    """
    given = {text.partition("=")[0].lstrip("+~") for text in overrides}
    expanded: list[str] = []
    for text in overrides:
        if text.startswith("sweep="):
            lines = compose_node("sweep", text.partition("=")[2], [])
            expanded += [f"{key}={value}" for key, value in lines.items() if key not in given]
        else:
            expanded.append(text)
    return expanded


def parsed(overrides: Sequence[str]) -> list[Any]:
    """Hydra's own object for each override: its value, or the values that it ranges over.

    Raises:
        ConfigErrors: with every override that cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, found, objects = OverridesParser.create(), [], []
    for text in overrides:
        try:
            objects.append(parser.parse_override(text))
        except HydraException as error:
            found.append(f"cannot read the override {text!r}: {str(error).splitlines()[0]}")
    if found:
        raise ConfigErrors(found)
    return objects


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the values of a sweep, the last override changing fastest.

    Raises:
        ConfigErrors: with every override that cannot be read, or ranges over more values than can be counted.
    """
    choices = []
    for text, override in zip(overrides, parsed(overrides), strict=True):
        key = text.partition("=")[0]
        if override.is_interval_sweep():
            raise ConfigErrors([f"{text} is an interval, to be searched: add hydra/sweeper=optuna"])
        choices.append(
            [f"{key}={v}" for v in override.sweep_string_iterator()] if override.is_sweep_override() else [text]
        )
    return [list(job) for job in itertools.product(*choices)]


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
    return with_overrides(completed(config), overrides)


def completed(config: Mapping[str, Any]) -> Config:
    """A saved config with the keys that have come since, as ``train.yaml`` has them: its own and those of the loader
    (``data.packing``). Their defaults are what was done before they came. One line says so."""
    defaults, data = read_yaml(config_directory() / "train.yaml"), config.get("data")
    added = {key: value for key, value in defaults.items() if key not in {*config, "defaults", "data"}}
    filled = {**config, **added}
    if isinstance(data, Mapping):
        loader = {key: value for key, value in defaults["data"].items() if key not in data}
        filled["data"] = {**data, **loader}
        added |= {f"data.{key}": value for key, value in loader.items()}
    if added:
        lines = [f"{key}={value}" for key, value in added.items()]
        _say_once(f"mmtx: saved before these keys existed, taken as their defaults: {' '.join(lines)}")
    return filled


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A resolved config with values changed. Groups cannot be swapped: their files may have changed since."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if "/" in key or (isinstance(config.get(key), dict) and "{" not in override):
            raise UserError(f"{override} swaps a group of a saved config; only values (a.b=c) can be changed")
    try:
        changed = OmegaConf.merge(OmegaConf.create(config), OmegaConf.from_dotlist([o.lstrip("+") for o in overrides]))
        resolved = OmegaConf.to_container(changed, resolve=True)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"cannot apply {' '.join(overrides)}: {error}") from None
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def describe_options() -> dict[str, dict[str, str]]:
    """``{group: {option: its file's first comment}}``, the user's own included."""
    described: dict[str, dict[str, str]] = {}
    with _hydra() as loader:
        for group in _all_groups(loader, ""):
            lines = {}
            for option in loader.get_group_options(group):
                lines[option] = _first_comment(loader, f"{group}/{option}")
            if lines:
                described[group] = lines
    return described


def _first_comment(loader: Any, path: str) -> str:
    for folder in (Path.cwd() / "conf", config_directory()):
        file = folder / f"{path}.yaml"
        if file.is_file():
            comments = [line.lstrip("# ").strip() for line in file.read_text().splitlines() if line.startswith("#")]
            return next((c for c in comments if not c.startswith("@package")), "")
    return ""


def _all_groups(loader: Any, parent: str) -> Iterator[str]:
    for name in loader.list_groups(parent):
        path = f"{parent}/{name}" if parent else name
        if path != "hydra":
            yield path
            yield from _all_groups(loader, path)


class _hydra:
    """Hydra with the packaged configs, and a ``conf`` folder of the working directory beside them."""

    def __enter__(self) -> Any:
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("in_set", _in_set, replace=True)
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


def _compose(overrides: Sequence[str], config_name: str = "train") -> Any:
    from hydra import compose as hydra_compose

    return hydra_compose(config_name, overrides=list(overrides))


def _unknown_choices(group: str, value: Any, known: Sequence[str]) -> Iterator[str]:
    for choice in value if isinstance(value, list) else [value]:
        if choice is not None and str(choice) not in known:
            yield f"{group}={choice}: there is no such {group}; {nearest(str(choice), known)}"


def _in_set(name: str, *, _root_: Any) -> bool:
    """``${in_set:NAME}``: whether a name was chosen for the set, for data that is made only where it is wanted."""
    return "_target_" in (_root_.modality.get(name) or {})


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
