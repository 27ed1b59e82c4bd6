"""What a sweep is given: overrides of its jobs, its launcher and its sweeper, all checked before anything starts."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmtx.config import check
from mmtx.config.construct import construct
from mmtx.config.overrides import OF_A_SWEEP
from mmtx.config.schema import Config
from mmtx.config.sweeps import compose_node, with_sweep_files
from mmtx.config.targets import resolve
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.experiment import Collector
from mmtx.experiment.problems import SEEDS
from mmtx.public_names import public_name
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.plan import Planned, plan
from mmtx.sweep.space import ends, search_space

POLICY_KEYS = set(inspect.signature(FailurePolicy).parameters)
OF_A_SEARCH = {"sweep", "axes", "monitor", "directions", "make", "report"}
PLUGINS = ["optuna"]
"""Packages besides mmtx whose classes a sweeper may name."""


class Overrides(NamedTuple):
    """The overrides of a sweep by owner, without Hydra's name before them."""

    jobs: list[str]
    launcher: list[str]
    sweeper: list[str]


def split(overrides: Sequence[str]) -> Overrides:
    """Overrides of the jobs, of the launcher, and of the sweeper. A file of a sweep's overrides gives its lines.

    Raises:
        ConfigErrors: there is no such file.
    """
    found = Overrides([], [], [])
    for override in with_sweep_files(overrides):
        owned = OF_A_SWEEP.fullmatch(override)
        if owned:
            getattr(found, owned[2]).append(owned[1])
        else:
            found.jobs.append(override)
    return found


def plan_sweep(overrides: Overrides, sweeper: Config | None, config_file: str | None) -> list[Planned]:
    """Every job; or, in a search, some that together try every end of the space.

    Raises:
        UserError: with everything that is wrong with any of them, or with what the search is to optimise.
    """
    if sweeper is None:
        return plan(overrides.jobs, config_file)
    fixed, axes = search_space(overrides.jobs)
    planned = [each for sweep in ends(axes) for each in plan([*fixed, *sweep], config_file)]
    _check_goals(sweeper, planned)
    return planned


def _check_goals(sweeper: Config, planned: Sequence[Planned]) -> None:
    from mmtx.sweep.optuna import goals

    pruner = construct(sweeper["pruner"], PLUGINS)
    for each in planned:
        goals(sweeper["metric"], sweeper["direction"], pruner, monitored(each.config), each.directions)


def monitored(config: Config) -> tuple[str | None, Any]:
    """The metric by which a run's best checkpoint is chosen, and its mode."""
    return config["checkpoint"]["monitor"], config["checkpoint"]["mode"]


def check_launcher(overrides: Sequence[str]) -> Config:
    """The launcher's config.

    Raises:
        ConfigErrors: with everything that is wrong with it.
    """
    config = compose_node("launcher", "slots", overrides)
    engine, policy = engine_and_policy(config)
    found = [*check.node_findings(engine, "hydra.launcher", {"demand"})]
    found += check.node_findings(policy, "hydra.launcher", set())
    if found:
        raise ConfigErrors([finding.message for finding in found])
    try:
        construct(policy)
    except InvalidValue as error:
        raise error.under("hydra.launcher") from None
    return config


def engine_and_policy(launcher: Config) -> tuple[Config, Config]:
    """The two parts of a launcher's config: what its engine and what its policy is constructed from."""
    policy = {key: value for key, value in launcher.items() if key in POLICY_KEYS}
    policy["_target_"] = public_name(FailurePolicy)
    return {key: value for key, value in launcher.items() if key not in POLICY_KEYS}, policy


def check_sweeper(overrides: Sequence[str]) -> Config | None:
    """The sweeper's config; None: none is requested, and every combination is a job.

    Raises:
        UserError: with everything that is wrong with it, or Optuna is not installed.
    """
    if not overrides:
        return None
    if not any(override.startswith("sweeper=") for override in overrides):
        raise UserError(f"hydra.{overrides[0]} belongs to a search; add hydra/sweeper=optuna")
    config = compose_node("sweeper", "optuna", overrides)
    resolve(config["_target_"])  # whose error names the extra that is not installed
    collector = Collector([*check.node_findings(config, "hydra.sweeper", OF_A_SEARCH, PLUGINS)])
    if isinstance(config["n_trials"], int) and config["n_trials"] < 1:
        collector.messages.append(f"hydra.sweeper.n_trials={config['n_trials']} must be at least 1")
    if isinstance(config["seed"], int) and not 0 <= config["seed"] < SEEDS:
        collector.messages.append(f"hydra.sweeper.seed={config['seed']} must lie in 0..{SEEDS - 1}")
        config["seed"] = 0
    if "seed" in config["sampler"]:
        collector.messages.append(f"hydra.sweeper.sampler.seed={config['sampler']['seed']}: hydra.sweeper.seed is it")
    collector.attempt("hydra.sweeper.pruner", lambda: construct(config["pruner"], PLUGINS))
    collector.attempt("hydra.sweeper.sampler", lambda: construct(config["sampler"], PLUGINS)(seed=config["seed"]))
    if collector.messages:
        raise ConfigErrors(collector.messages)
    return config
