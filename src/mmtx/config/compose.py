"""From yaml files and overrides to one config."""

from __future__ import annotations

import itertools
import math
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtx.config import check
from mmtx.config.migrations import migrated_config
from mmtx.config.overrides import MOST_VALUES, lines, read, read_all
from mmtx.config.plain_yaml import read_texts, read_yaml
from mmtx.config.redaction import literal
from mmtx.errors import ConfigErrors, UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Config = dict[str, Any]

NAMED_GROUPS = ("modality", "objective", "callbacks", "logger")
"""Groups of which several may be chosen; each of their files holds one named node."""

OF_ONE = ("data", "loader", "backbone", "optim", "trainer", "checkpoint", "lora")
"""Groups of which one is chosen. Several files of ``experiment`` are laid over each other."""

BY_THEMSELVES = ("callbacks", "logger")
"""Those of them that nothing else in a config depends on: of a saved one, some may be left out."""


def config_directory() -> Path:
    """Where the packaged configs are: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "conf"


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
        self._session = _hydra()
        self._loader = self._session.__enter__()
        self._known: dict[tuple[str, ...], Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._session.__exit__()

    def compose(self, overrides: Sequence[str]) -> Config:
        """Raises ConfigErrors with every override that is wrong."""
        choices: list[str] = []
        values: list[Override] = []
        chosen = {text.partition("=")[0].lstrip("+~") for text in overrides}
        if not chosen & {"experiment", "data"}:
            choices.append("experiment=quickstart")
        known, found = _of_one_config(overrides)
        for override in known:
            key = override.key_or_group
            options = self._once(("group", key), partial(self._options, key))
            bad = [] if options is None else list(_unknown_choices(key, override.value(), options))
            found += bad
            if options is None:
                values.append(override)
            elif not bad:
                nothing = override.value() is None and not override.is_delete()
                choices.append(f"{override.get_key_element()}=[]" if nothing else str(override.input_line))
        config: Config = {}
        try:
            # a pickle is a copy that takes a fifth of the time
            composed = pickle.loads(self._once(("config", *choices), lambda: pickle.dumps(_compose(choices))))
            config = _with_values(composed, values)
        except ConfigErrors as error:
            found += error.findings
        except Exception as error:  # Hydra and OmegaConf raise many kinds; all mean that the config is wrong
            found.append(" ".join(str(error).split()))
        if config and found:
            found += [finding.message for finding in check.findings(config)]
        if found:
            raise ConfigErrors(found)
        return config

    def _options(self, key: str) -> list[str] | None:
        """What there is to choose from where a key is a group; None where it is a value."""
        from hydra.core.object_type import ObjectType

        files = self._loader.repository  # the loader itself would set up its sources anew for each key
        options: list[str] = files.get_group_options(key)
        return options if options or files.get_group_options(key, ObjectType.GROUP) else None

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

    values = []
    for override in read_all(overrides):
        text = str(override.input_line)
        if override.is_sweep_override():
            raise ConfigErrors([f"hydra.{text} names several values; a sweep has one {group}"])
        if override.key_or_group == group:
            name = str(override.value())
        else:
            values.append(text if "/" in override.key_or_group else "++" + text.lstrip("+"))
    with _hydra() as loader:
        found = list(_unknown_choices(f"hydra/{group}", name, loader.get_group_options(group)))
        for override in read_all(values):
            part = override.key_or_group
            if "/" in part and not override.is_delete():
                found += _unknown_choices(f"hydra/{part}", override.value(), loader.get_group_options(part))
        if found:
            raise ConfigErrors(found)
        try:
            config = OmegaConf.to_container(_compose(values, f"{group}/{name}"), resolve=True)
        except Exception as error:  # as above
            raise ConfigErrors([" ".join(str(error).split())]) from None
    assert isinstance(config, dict)
    return config[group]


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
    files = {file.stem: file for folder in reversed(_folders()) for file in sorted((folder / "sweep").glob("*.yaml"))}
    if name not in files:
        raise ConfigErrors(list(_unknown_choices("sweep", name, list(files))))
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


def group_options(group: str) -> list[str]:
    """What there is to choose from in a group; nothing where it is none."""
    with _hydra() as loader:
        options: list[str] = loader.get_group_options(group)
    return options


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
    defaults = read_yaml(config_directory() / "train.yaml")
    added = {key: value for key, value in defaults.items() if key not in {*config, "defaults"}}
    if added:
        lines = [f"{key}={value}" for key, value in added.items()]
        _say_once(f"mmtx: saved before these keys existed, taken as their defaults: {' '.join(lines)}")
    return {**config, **added}


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A resolved config with values changed. Groups cannot be swapped: their files may have changed since.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    return _overridden(literal(config), overrides)


def _overridden(config: Config, overrides: Sequence[str]) -> Config:
    from omegaconf import OmegaConf

    known, found = _of_one_config(overrides)
    values, kept = [], dict(config)
    for override in known:
        key, value = override.key_or_group, override.value()
        names = (value or []) if key in BY_THEMSELVES and not override.is_delete() else None
        if isinstance(names, list) and set(map(str, names)) <= set(config.get(key) or {}):
            kept[key] = {name: config[key][name] for name in names}
        elif "/" in key or any((folder / key).is_dir() for folder in _folders()):
            found.append(f"{override.input_line} swaps a group of a saved config; only values (a.b=c) can be changed")
        else:
            values.append(override)
    if found:
        raise ConfigErrors(found)
    return _with_values(OmegaConf.create(kept), values)


def _of_one_config(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
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


def _with_values(config: DictConfig, overrides: Sequence[Override]) -> Config:
    """A config with values laid over it, in their order, and then resolved.

    Raises:
        ConfigErrors: with every value that is wrong.
    """
    from omegaconf import OmegaConf

    _register_resolvers()
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


def _folders() -> tuple[Path, Path]:
    """Where configs lie: a user's file of the same name wins."""
    return Path.cwd() / "conf", config_directory()


def _first_comment(loader: Any, path: str) -> str:
    for folder in _folders():
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

        _register_resolvers()
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


def _register_resolvers() -> None:
    """Makes ``${now:...}`` and Hydra's others known, and our own: a saved config is read without Hydra, and has them
    too."""
    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf

    setup_globals()
    OmegaConf.register_new_resolver("in_set", _in_set, replace=True)


def _compose(overrides: Sequence[str], config_name: str = "train") -> Any:
    from hydra import compose as hydra_compose

    return hydra_compose(config_name, overrides=list(overrides))


def _unknown_choices(group: str, value: Any, known: Sequence[str]) -> Iterator[str]:
    choices = value if isinstance(value, list) else [value]
    if len(choices) > 1 and group in OF_ONE:
        yield f"{group}=[{','.join(map(str, choices))}] are several; there is one {group}"
    for choice in dict.fromkeys(map(str, choices)):
        if choices.count(choice) > 1:
            yield f"{group}=[{','.join(map(str, choices))}] names {choice} twice"
    for choice in choices:
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
