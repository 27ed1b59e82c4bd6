"""From config to objects."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mmtx.batch import Spec
from mmtx.compatibility import mismatches
from mmtx.config import check
from mmtx.config.compose import Config, compose
from mmtx.data.base import Source
from mmtx.data.fitted import FittedState, nested_source
from mmtx.data.loaders import DataModule
from mmtx.data.modality_dropout import ModalityDropout
from mmtx.directions import Directions
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer, check_encode
from mmtx.nn.backbone import Backbone
from mmtx.nn.low_rank import LoRA, freeze
from mmtx.tokens import Clock

if TYPE_CHECKING:
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training

STAND_IN_DIM = 768
"""Width with which the tokenizers are tried where the backbone cannot be made, so that their errors show too."""


LONGEST_NAME = 255
"""Bytes that file systems take for the name of a folder."""

SEEDS = 2**32
"""What numpy's generators take."""


@dataclass(frozen=True)
class Experiment:
    """The objects of one config.

    Attributes:
        directions: which way each metric is better that the run may log.
    """

    config: Config
    data: DataModule
    learner: Learner
    optimisation: Optimisation
    training: Training
    directions: Directions

    @property
    def total_steps(self) -> int:
        return self.training.total_steps(self.data.num_train, self.data.batch_size)


def construct(node: Any, plugins: Sequence[str] = (), **runtime: Any) -> Any:
    """The object that a node describes: its ``_target_`` called with its other keys, nested nodes first.

    With ``_partial_: true`` it is a callable that waits for the rest of its arguments.
    """
    if isinstance(node, Mapping):
        children = {str(key): _child(str(key), child, plugins) for key, child in node.items() if str(key)[:1] != "_"}
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


def _child(key: str, node: Any, plugins: Sequence[str]) -> Any:
    try:
        with nested_source(key):
            return construct(node, plugins)
    except InvalidValue as error:
        raise error if error.key.startswith(f"{key}.") else error.under(key) from None


class Collector:
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
            complete = error.key == path or error.key.startswith((f"{path}.", "encoder."))
            self.messages.append(str(error if complete else error.under(path)))
        except (ValueError, TypeError) as error:
            self.messages.append(f"{path}: {error}")
        self.paths.append(path)
        return None


def assemble(config: Config, fitted: FittedState | None = None, like: Experiment | None = None) -> Experiment:
    """The objects of a config.

    Args:
        config: resolved.
        fitted: what the run that is continued, or that the model begins with, fitted to its data.
        like: an experiment whose data and model are taken where the same config would make them: many jobs of a sweep
            are checked with one model.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.reported import reported_directions
    from mmtx.training.trainer import Training

    found = check.findings(config)
    if any("." not in finding.path and finding.path not in config for finding in found):
        raise ConfigErrors([finding.message for finding in found])  # without a part of the whole, nothing can be tried
    collector = Collector(found)
    attempt, plugins = collector.attempt, check.packages(config)
    config = _without(config, [finding.path for finding in found if finding.unknown])
    for key, ok in (("modality", "at least one name"), ("objective", "at least one objective")):
        if not config.get(key):
            collector.messages.append(f"{key}=[] is empty; choose {ok}")
    seed = config.get("seed")
    if isinstance(seed, int) and not 0 <= seed < SEEDS:
        collector.messages.append(f"seed={seed} must lie in 0..{SEEDS - 1}")
    if config.get("encoder") and not config.get("encode"):
        collector.messages.append(f"encoder={config['encoder']} is of no use: nothing is encoded; add encode=[NAME]")
    if isinstance(config["log_every_steps"], int) and config["log_every_steps"] < 1:
        collector.messages.append(f"log_every_steps={config['log_every_steps']} must be at least 1")
    if isinstance(config["name"], str) and not _names_a_folder(config["name"]):
        problem = "must name a folder under runs/; run_dir=DIR is a folder anywhere"
        collector.messages.append(f"name={config['name']!r} {problem}")
    if config.get("init_from") == "":
        collector.messages.append("init_from= is empty; init_from=null begins with fresh weights")
    optimisation = attempt("optim", lambda: _is(Optimisation, construct(config["optim"], plugins)))
    training = attempt("trainer", lambda: _is(Training, construct(config["trainer"], plugins)))
    if training is not None and attempt("trainer", lambda: training.num_ranks) is None:
        training = None
    torch.manual_seed(config["seed"] if isinstance(config.get("seed"), int) else 0)
    source = learner = data = None
    if like is not None and data_part(like.config) == data_part(config):
        source = like.data.source
        learner = like.learner if model_part(like.config) == model_part(config) else None
    if learner is None:
        backbone, encoder = make_stacks(config, attempt, plugins)
        source = source or attempt("data", lambda: construct_source(config, fitted))
        if source is not None:
            learner = make_learner(config, source.specs, backbone, encoder, attempt, plugins)
    if source is not None:
        names = list(learner.specs if learner is not None else config["modality"])
        absence = attempt("modality_dropout", lambda: _modality_dropout(config, learner))
        data = attempt("loader", lambda: data_module(config, source, names, absence))
    for group in ("callbacks", "logger"):
        attempt(group, partial(construct, config.get(group), plugins))
    checkpoints = attempt("checkpoint", lambda: construct(config["checkpoint"], plugins)())
    if training is not None and data is not None:
        attempt("trainer", lambda: _check_steps(training, data))
    if learner is not None and data is not None:
        directions = attempt("objective", lambda: reported_directions(learner, data.source))
        if checkpoints is not None and directions is not None:
            attempt("checkpoint", lambda: checkpoints.choosing(directions))
        collector.messages += attempt("modality", lambda: mismatches(learner, data.source)) or []
        if training is not None and training.is_sharded and len(data.source.parts) > 1:
            problem = "needs as many batches on every rank, and a mixture does not give them; use ddp"
            collector.messages.append(f"trainer.strategy={training.strategy} {problem}")
    if training is not None and learner is not None and training.device_type == "cpu":
        stacks = {"backbone": learner.model.backbone, "encoder": learner.model.encoder}
        for key in [key for key, stack in stacks.items() if stack is not None and stack.flex][:1]:
            problem = "cannot train here, as FlexAttention does not support backward on CPU"
            collector.messages.append(f"{key}.flex=true {problem}; set {key}.flex=false")
    if training is not None and optimisation is not None and training.is_sharded and optimisation.ema_decay is not None:
        collector.messages.append(f"optim.ema_decay={optimisation.ema_decay} cannot be kept by trainer.strategy=fsdp2")
    if collector.messages:
        raise ConfigErrors(collector.messages)
    assert learner is not None and data is not None
    return Experiment(config, data, learner, optimisation, training, directions)


def data_part(config: Config) -> Config:
    """What of a config the dataset is made from."""
    return {"plugins": config["plugins"], "data": config["data"], "init_from": config.get("init_from")}


def model_part(config: Config) -> Config:
    """What of a config, besides the data, the model and its objectives are made from."""
    parts = ("modality", "backbone", "encode", "encoder", "objective", "type_embeddings", "clocks", "freeze", "lora")
    return {part: config.get(part) for part in parts}


def build(overrides: Sequence[str] = ()) -> Experiment:
    """The objects of ``mmtx train [overrides]``, ready to be used from Python.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    if isinstance(overrides, str):
        raise UserError(f"build takes a list of overrides: build([{overrides!r}])")
    return assemble(compose(overrides))


def rebuild(config: Config, specs: Mapping[str, Spec], plugins: Sequence[str] = ()) -> Learner:
    """The learner of a config in eval mode, without its data; its weights are fresh.

    Args:
        config: of a run.
        specs: what its data declared.
        plugins: packages besides mmtx whose classes the config may name. A stored config cannot name them itself.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    collector = Collector(check.findings({**config, "plugins": list(plugins)}))
    backbone, encoder = make_stacks(config, collector.attempt, list(plugins))
    learner = make_learner(config, specs, backbone, encoder, collector.attempt, list(plugins))
    if collector.messages or learner is None:
        raise ConfigErrors(collector.messages)
    learner.config = config
    return learner.eval()


def make_stacks(config: Config, attempt: Any, plugins: list[str]) -> tuple[Any, Any]:
    """The backbone, and the encoder if names are to be encoded; None for what cannot be made."""
    encode = list(config.get("encode") or [])
    if attempt("encode", lambda: check_encode(encode, config["modality"])) is None:
        return None, None
    cross_attention = bool(encode)
    backbone = attempt(
        "backbone", lambda: _is(Backbone, construct(config["backbone"], plugins, cross_attention=cross_attention))
    )
    encoder = None
    if encode and backbone is not None:
        node = check.encoder_node(config)
        encoder = attempt("encoder", lambda: construct(node, plugins, cross_attention=False))
        backbone = None if encoder is None else backbone
    return backbone, encoder


def make_learner(
    config: Config, specs: Mapping[str, Spec], backbone: Any, encoder: Any, attempt: Any, plugins: list[str]
) -> Any:
    """Tokenizers, model and objectives over the stacks; None if any of them cannot be made."""
    tokenizers = {}
    for name, node in config["modality"].items():
        if name not in specs:
            attempt(f"modality.{name}", partial(_not_offered, name, specs, config))
        else:
            dim = backbone.dim if backbone is not None else STAND_IN_DIM
            make = partial(construct, node, plugins, spec=specs[name], dim=dim)
            tokenizers[name] = attempt(f"modality.{name}", make)
    clocks = attempt("clocks", lambda: _clocks(construct(config["clocks"] or {}, plugins)))
    if backbone is None or clocks is None or None in tokenizers.values() or len(tokenizers) < len(config["modality"]):
        return None
    model = attempt(
        "backbone",
        lambda: MultimodalTransformer(
            tokenizers=tokenizers,
            backbone=backbone,
            encoder=encoder,
            encode=list(config["encode"]),
            type_embeddings=config["type_embeddings"],
            clocks=clocks,
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
    learner = Learner(
        model=model, objectives=objectives, specs={name: spec for name, spec in specs.items() if name in names}
    )
    for path, change in (("freeze", _freeze), ("lora", _add_updates)):
        if config.get(path) and attempt(path, partial(change, learner, config, plugins)) is None:
            return None
    return learner


def _freeze(learner: Learner, config: Config, plugins: list[str]) -> Learner:
    freeze(learner, config["freeze"])
    if not config.get("lora") and not any(parameter.requires_grad for parameter in learner.parameters()):
        raise InvalidValue("freeze", config["freeze"], "leaves nothing to learn")
    return learner


def _add_updates(learner: Learner, config: Config, plugins: list[str]) -> Learner:
    _is(LoRA, construct(config["lora"], plugins)).add(learner)
    return learner


def _not_offered(name: str, specs: Mapping[str, Spec], config: Config) -> None:
    raise ValueError(f"the data offers no '{name}'; it has {', '.join(specs)}")


def construct_source(config: Config, fitted: FittedState | None = None) -> Source:
    """The dataset of a config.

    Args:
        config: resolved.
        fitted: what a run fitted to its data; None: nothing yet.

    Raises:
        UserError: it cannot be made, or the run does not know what it holds.
    """
    node, plugins = config["data"], check.packages(config)
    found = check.node_findings(node, "data", set(), plugins)
    if found:
        raise ConfigErrors([finding.message for finding in found])
    return _source(node, "data", plugins, fitted or FittedState())


def _source(node: Any, path: str, plugins: Sequence[str], fitted: FittedState) -> Source:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InvalidValue(path, node, "is no dataset")
    if not issubclass(check.resolve(str(node["_target_"]), plugins), Source):
        raise UserError(f"{path}._target_={node['_target_']} is no dataset")
    if node.get("path") == "":  # which would be the working directory
        raise InvalidValue(f"{path}.path", "''", "is empty: name what is to be read")
    if isinstance(node.get("parts"), Mapping):
        names = node["names"] if isinstance(node.get("names"), Mapping) else {}
        parts = {
            part: _source(child, f"{path}.parts.{part}", plugins, fitted.nested(f"parts.{part}", names.get(part) or {}))
            for part, child in node["parts"].items()
        }
        node = {**node, "parts": parts}
    try:
        with fitted.active():
            return _is(Source, construct(node, plugins))
    except InvalidValue as error:
        raise error.under(path) from None


def data_module(config: Config, source: Source, names: list[str], dropout: ModalityDropout | None = None) -> DataModule:
    """The loaders of a config over a source."""
    given = {"source": source, "names": names, "seed": config["seed"], "modality_dropout": dropout}
    made: DataModule = _is(DataModule, construct(config["loader"], check.packages(config), **given))
    return made


def _modality_dropout(config: Config, learner: Learner | None) -> ModalityDropout:
    shares = config["modality_dropout"]
    dropout = ModalityDropout(shares=shares, names=list(config["modality"]), seed=config["seed"])
    for name in shares:
        if learner is not None and learner.predicts(name):
            raise InvalidValue(f"modality_dropout.{name}", shares[name], "would leave out what is to be predicted")
    return dropout


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


def _clocks(made: Mapping[str, Any]) -> dict[str, Clock]:
    return {name: _is(Clock, clock) for name, clock in made.items()}


def _is(kind: type, made: Any) -> Any:
    if isinstance(made, dict):
        raise ValueError("has no _target_: nothing is chosen")
    if not isinstance(made, kind):
        raise ValueError(f"_target_ names a {type(made).__name__}; a {kind.__name__} belongs here")
    return made


def _names_a_folder(name: str) -> bool:
    """Whether a name can be a folder of a run, or several, one in the other."""
    fits = all(part.strip() and part != ".." and len(part.encode()) <= LONGEST_NAME for part in name.split("/"))
    return fits and name.isprintable() and name != "."
