"""From config to objects: the only library file that knows Hydra."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from mmtx import check
from mmtx.batch import Field, Spec
from mmtx.data.base import Source
from mmtx.data.module import DataModule
from mmtx.data.vocabulary import TextVocabulary
from mmtx.errors import ConfigErrors, InvalidValue, UserError, nearest
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.tokens import Clock

if TYPE_CHECKING:
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training

Config = dict[str, Any]
NAMED_GROUPS = ("modality", "objective", "callbacks", "logger")
"""Groups of which several may be chosen; each of their files holds one named node."""


STAND_IN_DIM = 768
"""Width with which the tokenizers are tried where the backbone cannot be made, so that their errors show too."""


@dataclass(frozen=True)
class Experiment:
    """The objects of one config."""

    config: Config
    data: DataModule
    learner: Learner
    optimisation: Optimisation
    training: Training

    @property
    def total_steps(self) -> int:
        return self.training.total_steps(self.data.num_train, self.data.batch_size)


def top_level(
    *,
    name: str,
    data: dict,
    modality: dict,
    backbone: dict,
    objective: dict,
    optim: dict,
    trainer: dict,
    checkpoint: dict,
    logger: dict,
    callbacks: dict,
    type_embeddings: bool,
    clocks: dict,
    seed: int,
    log_every_steps: int,
    run_dir: str | None,
    plugins: list[str],
) -> None:
    """The keys at the top of a config. Their defaults stand in ``conf/train.yaml``."""


# -------------------------------------------------------------------- composing


def config_directory() -> Path:
    """Where the packaged configs are: inside the wheel, or at the top of a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def compose(overrides: Sequence[str]) -> Config:
    """One config from ``train.yaml``, the chosen files and the overrides.

    Raises:
        ConfigErrors: with every override that is wrong.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    found: list[str] = []
    accepted: list[str] = []
    values: list[str] = []
    with _hydra() as loader:
        parser = OverridesParser.create(config_loader=loader)
        chosen = {text.partition("=")[0].lstrip("+~") for text in overrides}
        if not chosen & {"experiment", "data"}:
            accepted.append("experiment=quickstart")
        for text in overrides:
            try:
                override = parser.parse_override(text)
            except HydraException as error:
                reason = str(error).splitlines()[0]
                found.append(f"cannot read the override {text!r}: {reason}; quote values with special characters")
                continue
            key = override.key_or_group
            if key.startswith("hydra"):
                accepted.append(text)
            elif override.is_sweep_override():
                found.append(f"{text} names several values: that is a sweep; add -m")
            elif loader.list_groups(key) or loader.get_group_options(key):
                bad = list(_unknown_choices(key, override.value(), loader.get_group_options(key)))
                found += bad
                if not bad:
                    accepted.append(text)
            elif override.is_delete():
                accepted.append(text)
            else:
                values.append(key)
                accepted.append("++" + text.lstrip("+"))
        config: Config = {}
        try:
            config = _compose(accepted)
        except Exception as error:  # Hydra and OmegaConf raise many kinds; all mean that the config is wrong
            found.append(" ".join(str(error).split()))
    if config:
        found += _drop_unchosen(config, values)
        found += [finding.message for finding in check.findings(config, top_level)] if found else []
    if found:
        raise ConfigErrors(found)
    return config


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the values of a sweep, the last override changing fastest."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    choices = []
    for text in overrides:
        override = parser.parse_override(text)
        key = text.partition("=")[0]
        choices.append(
            [f"{key}={v}" for v in override.sweep_string_iterator()] if override.is_sweep_override() else [text]
        )
    return [list(job) for job in itertools.product(*choices)]


def read_config(file: Path | str, overrides: Sequence[str] = ()) -> Config:
    """A saved config with values changed.

    Raises:
        UserError: the file is not a config.
    """

    try:
        config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file} cannot be read: {error}") from None
    if not isinstance(config, dict) or "backbone" not in config:
        raise UserError(f"--config {file} is not the config.yaml of a run")
    return with_overrides(config, overrides)


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

        GlobalHydra.instance().clear()
        initialize_config_dir(config_dir=str(config_directory()), version_base="1.3")
        loader = GlobalHydra.instance().config_loader()
        own = Path.cwd() / "conf"
        if own.is_dir() and own != config_directory():
            # before the packaged ones: a user's file of the same name wins
            loader.get_search_path().prepend(provider="user", path=f"file://{own}")
            loader.repository.initialize_sources(loader.get_search_path())  # type: ignore[attr-defined]
        return loader

    def __exit__(self, *_: object) -> None:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()


def _compose(overrides: Sequence[str]) -> Config:
    from hydra import compose as hydra_compose
    from omegaconf import OmegaConf

    composed = hydra_compose("train", overrides=list(overrides))
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    return config  # type: ignore[return-value]


def _unknown_choices(group: str, value: Any, known: Sequence[str]) -> Iterator[str]:
    for choice in value if isinstance(value, list) else [value]:
        if choice is not None and str(choice) not in known:
            yield f"{group}={choice}: there is no such {group}; {nearest(str(choice), known)}"


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


# -------------------------------------------------------------------- building


def construct(node: Any, plugins: Sequence[str] = (), **runtime: Any) -> Any:
    """The object that a node describes: its ``_target_`` called with its other keys, nested nodes first.

    With ``_partial_: true`` it is a callable that waits for the rest of its arguments.
    """
    if isinstance(node, Mapping):
        children = {key: construct(child, plugins) for key, child in node.items() if not str(key).startswith("_")}
        if "_target_" not in node:
            return children
        target = check.resolve(str(node["_target_"]), plugins)
        hints = check.argument_types(target)
        children = {key: check.as_annotated(value, hints.get(key)) for key, value in children.items()}
        call = partial(target, **children, **runtime)
        return call if node.get("_partial_") else call()
    if isinstance(node, list):
        return [construct(child, plugins) for child in node]
    return node


class _Collector:
    """Goes on after an error, so that all are reported together."""

    def __init__(self, found: Sequence[check.Finding]) -> None:
        self.paths = [finding.path for finding in found if not finding.unknown]
        self.messages = [finding.message for finding in found]

    def attempt(self, path: str, make: Any) -> Any:
        """The object, or None if it cannot be made or its config is already known to be wrong."""
        if any(p == path or p.startswith(f"{path}.") for p in self.paths):
            return None
        try:
            return make()
        except InvalidValue as error:
            self.messages.append(str(error if error.key.startswith(f"{path}.") else error.under(path)))
        except (ValueError, TypeError) as error:
            self.messages.append(f"{path}: {error}")
        self.paths.append(path)
        return None


def assemble(config: Config) -> Experiment:
    """The objects of a config.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training

    found = check.findings(config, top_level)
    collector = _Collector(found)
    attempt, plugins = collector.attempt, list(config.get("plugins") or [])
    config = _without(config, [finding.path for finding in found if finding.unknown])
    for key, ok in (("modality", "at least one name"), ("objective", "at least one objective")):
        if not config.get(key):
            collector.messages.append(f"{key}=[] is empty; choose {ok}")
    if config.get("log_every_steps") is not None and not _at_least_one(config["log_every_steps"]):
        collector.messages.append(f"log_every_steps={config['log_every_steps']} must be at least 1")
    optimisation = attempt("optim", lambda: _is(Optimisation, construct(config["optim"], plugins)))
    training = attempt("trainer", lambda: _is(Training, construct(config["trainer"], plugins)))
    if training is not None and attempt("trainer", lambda: training.num_ranks) is None:
        training = None
    torch.manual_seed(config["seed"] if isinstance(config.get("seed"), int) else 0)
    backbone = attempt("backbone", lambda: construct(config["backbone"], plugins))
    source = attempt("data", lambda: construct_source(config))
    learner = data = None
    if source is not None:
        learner = _learner(config, source.specs, backbone, attempt, plugins)
        names = _names_read(learner, config)
        data = attempt("data", lambda: _data_module(config, source, names))
    for group in ("callbacks", "checkpoint", "logger"):
        attempt(group, partial(construct, config.get(group), plugins))
    if training is not None and data is not None:
        attempt("trainer", lambda: _check_steps(training, data))
    if training is not None and optimisation is not None and training.is_sharded and optimisation.ema_decay is not None:
        collector.messages.append(f"optim.ema_decay={optimisation.ema_decay} cannot be kept by trainer.strategy=fsdp2")
    if collector.messages:
        raise ConfigErrors(collector.messages)
    assert learner is not None and data is not None
    return Experiment(config, data, learner, optimisation, training)


def build(overrides: Sequence[str] = ()) -> Experiment:
    """The objects of ``mmtx train [overrides]``, ready to be used from Python."""
    return assemble(compose(overrides))


def _learner(config: Config, specs: Mapping[str, Spec], backbone: Any, attempt: Any, plugins: list[str]) -> Any:
    """Tokenizers, model and objectives over a backbone; None if any of them cannot be made."""
    tokenizers = {}
    for name, node in config["modality"].items():
        if name not in specs:
            attempt(f"modality.{name}", partial(_not_offered, name, specs, config))
        else:
            dim = backbone.dim if backbone is not None else STAND_IN_DIM
            make = partial(construct, node, plugins, spec=specs[name], dim=dim)
            tokenizers[name] = attempt(f"modality.{name}", make)
    clocks = attempt("clocks", lambda: {name: Clock(**node) for name, node in (config["clocks"] or {}).items()})
    if backbone is None or clocks is None or None in tokenizers.values() or len(tokenizers) < len(config["modality"]):
        return None
    model = attempt(
        "backbone",
        lambda: MultimodalTransformer(
            tokenizers=tokenizers, backbone=backbone, type_embeddings=config["type_embeddings"], clocks=clocks
        ),
    )
    if model is None:
        return None
    objectives = {
        name: attempt(f"objective.{name}", partial(construct, node, plugins, specs=specs, model=model))
        for name, node in config["objective"].items()
    }
    if None in objectives.values():
        return None
    names = {*tokenizers, *(label for objective in objectives.values() for label in objective.labels)}
    return Learner(
        model=model, objectives=objectives, specs={name: spec for name, spec in specs.items() if name in names}
    )


def _not_offered(name: str, specs: Mapping[str, Spec], config: Config) -> None:
    raise ValueError(f"the data offers no '{name}'; it has {', '.join(specs)}")


def construct_source(config: Config) -> Source:
    """The dataset of a config, without the keys of its loader.

    Raises:
        UserError: it cannot be made.
    """
    node = {key: value for key, value in config["data"].items() if key not in check.RUNTIME["data"]}
    try:
        return _is(Source, construct(node, config["plugins"]))
    except InvalidValue as error:
        raise error.under("data") from None


def _data_module(config: Config, source: Source, names: list[str]) -> DataModule:
    loader = {key: config["data"][key] for key in check.RUNTIME["data"]}
    return DataModule(source=source, names=names, seed=config["seed"], **loader)


def _names_read(learner: Learner | None, config: Config) -> list[str]:
    return list(learner.specs) if learner is not None else list(config["modality"])


def _check_steps(training: Training, data: DataModule) -> None:
    steps = training.total_steps(data.num_train, data.batch_size)
    if steps < 1:
        raise InvalidValue("max_epochs", training.max_epochs, "gives no optimiser step")


def _without(config: Config, paths: Sequence[str]) -> Config:
    """A copy that lacks some keys."""
    copied = copy.deepcopy(config)
    for path in paths:
        *parents, key = path.split(".")
        node: Any = copied
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(key, None)
    return copied


def _is(kind: type, made: Any) -> Any:
    if not isinstance(made, kind):
        raise ValueError(f"_target_ names a {type(made).__name__}; a {kind.__name__} belongs here")
    return made


def _at_least_one(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


# -------------------------------------------------------------------- saving and loading


def contents(experiment: Experiment) -> dict[str, Any]:
    """What a checkpoint holds beside the weights: everything that `load` needs, as plain values."""
    specs = {name: _spec_state(spec) for name, spec in experiment.learner.specs.items()}
    return {"format": 1, "config": experiment.config, "specs": specs}


def load(place: Path | str, plugins: Sequence[str] = ()) -> Learner:
    """The model of a run directory or checkpoint, with its objectives, in eval mode.

    Weights are the moving average where the run kept one.

    Args:
        place: run directory or checkpoint file.
        plugins: packages besides mmtx whose classes the config may name. A checkpoint cannot name them itself.

    Raises:
        UserError: there is no checkpoint, or it is not one of mmtx.
    """
    from mmtx.run.directory import newest_checkpoint

    checkpoint = read_checkpoint(newest_checkpoint(place))
    config = checkpoint["mmtx"]["config"]
    specs = {name: _restore_spec(state, plugins) for name, state in checkpoint["mmtx"]["specs"].items()}
    collector = _Collector(check.findings({**config, "plugins": list(plugins)}, top_level))
    backbone = collector.attempt("backbone", lambda: construct(config["backbone"], plugins))
    learner = _learner(config, specs, backbone, collector.attempt, list(plugins))
    if collector.messages or learner is None:
        raise ConfigErrors(collector.messages)
    learner.load_state_dict(_weights(checkpoint))
    return learner.eval()


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Raises UserError if the file is not a checkpoint of mmtx. Nothing in it is executed."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds, from the archive, the pickle and the tensors
        raise UserError(f"{file} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(checkpoint, dict) or "mmtx" not in checkpoint:
        raise UserError(f"{file} is a checkpoint, but not one of mmtx")
    return checkpoint


def _weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    prefix = "learner."
    weights = {key[len(prefix) :]: v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    average = {key: value for key, value in checkpoint.get("average", {}).items() if key != "updates"}
    return weights | average


def _spec_state(spec: Spec) -> dict[str, Any]:
    vocabulary = spec.vocabulary
    kind = f"{type(vocabulary).__module__}.{type(vocabulary).__qualname__}"
    return {
        "fields": {
            key: {
                "shape": list(field.shape),
                "dtype": str(field.dtype).removeprefix("torch."),
                "num_classes": field.num_classes,
                "max_length": field.max_length,
            }
            for key, field in spec.fields.items()
        },
        "labels": list(spec.labels) if spec.labels else None,
        "vocabulary": {"kind": kind, "state": vocabulary.state()} if vocabulary is not None else None,
    }


def _restore_spec(state: dict[str, Any], plugins: Sequence[str]) -> Spec:
    fields = {
        key: Field(tuple(field["shape"]), getattr(torch, field["dtype"]), field["num_classes"], field["max_length"])
        for key, field in state["fields"].items()
    }
    vocabulary = None
    if state["vocabulary"] is not None:
        kind = check.resolve(state["vocabulary"]["kind"], plugins)
        if not issubclass(kind, TextVocabulary):
            raise UserError(f"the checkpoint's vocabulary is a {kind.__name__}, which is none")
        vocabulary = kind.__new__(kind)
        vocabulary.load(state["vocabulary"]["state"])
    return Spec(fields, tuple(state["labels"]) if state["labels"] else None, vocabulary)
