"""From config to objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mmtx.compatibility import mismatches
from mmtx.config.compose import compose
from mmtx.config.construct import construct, construct_as
from mmtx.config.schema import Config
from mmtx.config.targets import packages
from mmtx.data.base import Source
from mmtx.data.fitted import FittedState
from mmtx.data.loaders import DataModule
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment.collector import Collector
from mmtx.experiment.environments import let_act
from mmtx.experiment.fit_objectives import fit_objectives
from mmtx.experiment.learner import make_learner, make_stacks, model_part
from mmtx.experiment.problems import check_steps, packing_problems, training_problems, value_problems
from mmtx.experiment.source import construct_source, data_module, data_part, modality_dropout
from mmtx.learner import Learner
from mmtx.metric_directions import Directions
from mmtx.nn.roles import roles_of

if TYPE_CHECKING:
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training


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

    @property
    def samples_per_step(self) -> int:
        return self.training.samples_per_step(self.data.batch_size)


def build(overrides: Sequence[str] = ()) -> Experiment:
    """The objects of ``mmtx train [overrides]``, ready to be used from Python.

    Raises:
        ConfigErrors: with everything that is wrong.
    """
    if isinstance(overrides, str):
        raise UserError(f"build takes a list of overrides: build([{overrides!r}])")
    experiment = assemble(compose(overrides))
    fit_objectives(experiment.learner, experiment.config, experiment.data.source)
    return experiment


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
    from mmtx.training.stages import Stages

    collector, config = Collector.of(config)
    collector.messages += value_problems(config)
    optimisation, training = _optimisation_and_training(config, collector)
    has_devices = training is not None and collector.attempt("trainer", lambda: training.num_ranks) is not None
    torch.manual_seed(config["seed"] if isinstance(config["seed"], int) else 0)
    source, learner = _source_and_learner(config, fitted, like, collector)
    if source is not None and learner is not None:
        collector.attempt("objective", partial(let_act, learner, source))
    data = _data(config, source, learner, training.free_cores if training is not None and has_devices else 0, collector)
    if learner is not None and collector.attempt("model", lambda: roles_of(learner)) and optimisation is not None:
        collector.attempt("optim", lambda: optimisation.optimizer(learner))
        collector.attempt("optim", lambda: Stages(optimisation.stages, learner))
    directions = _directions(config, learner, data, collector)
    if training is not None:
        collector.messages += packing_problems(training.device_type, learner, data)
    if training is not None and has_devices:
        if data is not None:
            collector.attempt("trainer", lambda: check_steps(training, data))
        collector.messages += training_problems(training, optimisation, learner, data)
    if collector.messages:
        raise ConfigErrors(collector.messages)
    assert learner is not None and data is not None and optimisation is not None and training is not None
    return Experiment(config, data, learner, optimisation, training, directions)


def _optimisation_and_training(config: Config, collector: Collector) -> tuple[Optimisation | None, Training | None]:
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training

    attempt, plugins = collector.attempt, packages(config)
    optimisation = attempt("optim", lambda: construct_as(Optimisation, config["optim"], plugins))
    training = attempt("trainer", lambda: construct_as(Training, config["trainer"], plugins))
    return optimisation, training


def _source_and_learner(
    config: Config, fitted: FittedState | None, like: Experiment | None, collector: Collector
) -> tuple[Source | None, Learner | None]:
    source = learner = None
    if like is not None and data_part(like.config) == data_part(config):
        source = like.data.source
        learner = like.learner if model_part(like.config) == model_part(config) else None
    if learner is None:
        stacks = make_stacks(config, collector.attempt)
        source = source or collector.attempt("data", lambda: construct_source(config, fitted))
        if source is not None:
            learner = make_learner(config, source.specs, *stacks, collector.attempt)
    return source, learner


def _data(
    config: Config, source: Source | None, learner: Learner | None, free_cores: int, collector: Collector
) -> DataModule | None:
    if source is None:
        return None
    names = list(learner.specs if learner is not None else config["modality"])
    dropout = collector.attempt("modality_dropout", lambda: modality_dropout(config, learner))
    make = partial(data_module, config, source, names, dropout, free_cores)
    data: DataModule | None = collector.attempt("loader", make)
    return data


def _directions(config: Config, learner: Learner | None, data: DataModule | None, collector: Collector) -> Any:
    """Which way each metric is better, as far as it can be known. What saves and reports is tried on it."""
    from mmtx.training.callbacks import constructed, suited
    from mmtx.training.logged_directions import metric_directions
    from mmtx.training.loggers import check_logger

    attempt, plugins = collector.attempt, packages(config)
    checkpoints = attempt("checkpoint", lambda: construct(config["checkpoint"], plugins)())
    directions = None
    if learner is not None and data is not None:
        directions = attempt("objective", lambda: metric_directions(learner, data.source))
    for path, node in _nodes(config, "callbacks"):
        made = attempt(path, partial(constructed, partial(construct, node, plugins)))
        attempt(path, partial(suited, made, directions))
    for path, node in _nodes(config, "logger"):
        made = attempt(path, partial(constructed, partial(construct, node, plugins)))
        attempt(path, partial(check_logger, made))
    if checkpoints is not None and directions is not None:
        attempt("checkpoint", lambda: checkpoints.choosing(directions))
    if learner is not None and data is not None:
        collector.messages += attempt("modality", lambda: mismatches(learner, data.source)) or []
    return directions


def _nodes(config: Config, group: str) -> list[tuple[str, Any]]:
    """Paths and nodes of a group of which several may be chosen; none where it is no mapping, which is a finding."""
    nodes = config[group]
    return [(f"{group}.{name}", node) for name, node in nodes.items()] if isinstance(nodes, dict) else []
