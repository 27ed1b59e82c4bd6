"""``mmtx train -m`` and ``mmtx resume SWEEP``."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmtx.config import check
from mmtx.config.compose import Config, compose_node, read_config, with_sweep_files
from mmtx.config.overrides import OF_A_SWEEP
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.experiment import SEEDS, Collector, construct
from mmtx.process.launch import launch
from mmtx.public_names import public_name
from mmtx.run.directory import RunDirectory, fresh_directory
from mmtx.run.lock import lock
from mmtx.run.worker import command as job_command
from mmtx.sweep.engine import Demand, Engine
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.job_queue import JobQueue
from mmtx.sweep.outcome import read_status
from mmtx.sweep.plan import Planned, TrialPlanner, plan
from mmtx.sweep.record import Job, Sweep, now, read_sweep, summary
from mmtx.sweep.runner import SweepRunner
from mmtx.sweep.space import ends, search_space
from mmtx.sweep.view import View, view_for

POLICY_KEYS = set(inspect.signature(FailurePolicy).parameters)
OF_A_SEARCH = {"sweep", "axes", "monitor", "directions", "make", "report"}
PLUGINS = ["optuna"]
"""Whose classes a sweeper may be made of, besides ours."""


class Words(NamedTuple):
    """What a sweep was asked for, by whom it concerns; without Hydra's name before it."""

    jobs: list[str]
    launcher: list[str]
    sweeper: list[str]


def split(overrides: Sequence[str]) -> Words:
    """Overrides of the jobs, of the launcher, and of the sweeper. A file of a sweep's overrides gives its lines.

    Raises:
        ConfigErrors: there is no such file.
    """
    words = Words([], [], [])
    for override in with_sweep_files(overrides):
        owned = OF_A_SWEEP.fullmatch(override)
        if owned:
            getattr(words, owned[2]).append(owned[1])
        else:
            words.jobs.append(override)
    return words


def run_sweep(config_file: str | None, overrides: list[str], run_dir: str | None) -> int:
    """Plans a sweep and runs it; where the directory already holds it, what is not done of it. Gives the exit code.

    Raises:
        UserError: anything is wrong with any job, or the directory holds something else. Nothing is then started.
    """
    launch().check_alone()
    words = split(overrides)
    launcher, sweeper = check_launcher(words.launcher), check_sweeper(words.sweeper)
    config_file = str(Path(config_file).absolute()) if config_file is not None else None
    planned = plan_sweep(words, sweeper, config_file)
    folder = (Path(run_dir).expanduser() if run_dir else fresh_directory(planned[0].config["name"])).absolute()
    if (folder / "status.json").exists():
        raise UserError(f"run_dir={folder} already holds a run; a sweep needs a directory of its own")
    jobs = [each.job for each in planned] if sweeper is None else []
    sweep = Sweep(folder, with_sweep_files(overrides), config_file, now(), "running", jobs)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if sweep.file.exists():
            sweep = _grown(read_sweep(folder), sweep)
        if sweeper is None:
            for each in planned:
                _freeze(each, folder)
        return _run(sweep, launcher, sweeper, [each.config for each in planned], planned)


def resume_sweep(folder: Path | str, overrides: Sequence[str]) -> int:
    """Runs what is not done of a sweep, from its frozen configs. Gives the exit code.

    Args:
        folder: of the sweep.
        overrides: of its launcher or sweeper, on top of those it was started with.

    Raises:
        UserError: there is no sweep, another process is at it, or an override is for the jobs.
    """
    launch().check_alone()
    words = split(overrides)
    if words.jobs:
        only = "only hydra.launcher.* and hydra.sweeper.* can be given here"
        raise UserError(f"{words.jobs[0]} would change jobs that have begun; {only}")
    sweep = read_sweep(folder)
    before = split(sweep.command)
    launcher = check_launcher([*before.launcher, *words.launcher])
    sweeper = check_sweeper([*before.sweeper, *words.sweeper])
    with _alone(sweep.path):
        sweep = read_sweep(folder)
        left = [job for job in sweep.jobs if not job.is_done]
        configs = [read_config(sweep.path / job.name / "config.yaml") for job in left]
        planned = plan_sweep(before, sweeper, sweep.config_file) if sweeper is not None else []
        return _run(sweep, launcher, sweeper, [*configs, *(each.config for each in planned)], planned)


def plan_sweep(words: Words, sweeper: Config | None, config_file: str | None) -> list[Planned]:
    """Every job; or, where they are searched for, some that together try every end of the space.

    Raises:
        UserError: with everything that is wrong with any of them, or with what the search is to optimise.
    """
    if sweeper is None:
        return plan(words.jobs, config_file)
    fixed, axes = search_space(words.jobs)
    planned = [each for sweep in ends(axes) for each in plan([*fixed, *sweep], config_file)]
    _check_goals(sweeper, planned)
    return planned


def _check_goals(sweeper: Config, planned: Sequence[Planned]) -> None:
    from mmtx.sweep.optuna import goals

    pruner = construct(sweeper["pruner"], PLUGINS)
    for each in planned:
        goals(sweeper["metric"], sweeper["direction"], pruner, _monitor(each.config), each.directions)


def _monitor(config: Config) -> tuple[str | None, Any]:
    return config["checkpoint"]["monitor"], config["checkpoint"]["mode"]


def check_launcher(overrides: Sequence[str]) -> Config:
    """The launcher's config.

    Raises:
        ConfigErrors: with everything that is wrong with it.
    """
    config = compose_node("launcher", "slots", overrides)
    engine, policy = _parts(config)
    found = check.node_findings(engine, "hydra.launcher", {"demand"})
    found += check.node_findings(policy, "hydra.launcher", set())
    if found:
        raise ConfigErrors([finding.message for finding in found])
    try:
        construct(policy)
    except InvalidValue as error:
        raise error.under("hydra.launcher") from None
    return config


def check_sweeper(overrides: Sequence[str]) -> Config | None:
    """The sweeper's config; None: nobody asks for one, and every combination is a job.

    Raises:
        UserError: with everything that is wrong with it, or Optuna is not installed.
    """
    if not overrides:
        return None
    if not any(word.startswith("sweeper=") for word in overrides):
        raise UserError(f"hydra.{overrides[0]} is of a search; add hydra/sweeper=optuna")
    config = compose_node("sweeper", "optuna", overrides)
    check.resolve(config["_target_"])  # which says what is not installed
    collector = Collector(check.node_findings(config, "hydra.sweeper", OF_A_SEARCH, PLUGINS))
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


def _run(
    sweep: Sweep, launcher: Config, sweeper: Config | None, configs: Sequence[Config], planned: Sequence[Planned]
) -> int:
    for job in sweep.jobs:  # what a launcher that was killed could not write down
        if not job.is_done and read_status(sweep.path / job.name).get("state") == "finished":
            job.state, job.reason = "finished", None
    engine, policy = _engine(launcher, sweep, sweeper, configs)
    metric = configs[0]["checkpoint"]["monitor"] if configs else None
    view = view_for(metric)
    view.message(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    queue = JobQueue(sweep.jobs) if sweeper is None else _search(sweeper, sweep, planned[0], view)
    code = SweepRunner(sweep=sweep, queue=queue, engine=engine, policy=policy, command=job_command, view=view).run()
    for job in sweep.jobs:
        if job.state == "failed":
            view.message(f"failed: {job.name}: {job.reason}; see {sweep.path / job.name / 'log.txt'}")
    view.message(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    if code:
        view.message(f"`mmtx resume {shlex.quote(str(sweep.path))}` runs what is not done")
    return code


def _search(sweeper: Config, sweep: Sweep, like: Planned, view: View) -> JobQueue:
    """A search whose jobs are like one that is planned."""
    fixed, axes = search_space(split(sweep.command).jobs)
    planner = TrialPlanner(fixed, sweep.config_file)

    def make(number: int, overrides: Sequence[str]) -> Job:
        planned = planner(number, overrides)
        _freeze(planned, sweep.path)
        return planned.job

    runtime = {"monitor": _monitor(like.config), "directions": like.directions, "make": make, "report": view.message}
    try:
        search = construct(sweeper, PLUGINS, sweep=sweep, axes=axes, **runtime)
    except InvalidValue as error:
        raise error if error.key.startswith("hydra.") else error.under("hydra.sweeper") from None
    assert isinstance(search, JobQueue)
    return search


def _engine(
    launcher: Config, sweep: Sweep, sweeper: Config | None, configs: Sequence[Config]
) -> tuple[Engine, FailurePolicy]:
    to_come = max(0, sweeper["n_trials"] - len(sweep.jobs)) if sweeper else 0
    trainers = [config["trainer"] for config in configs]
    demand = Demand(
        num_jobs=len([job for job in sweep.jobs if not job.is_done]) + to_come,
        devices_per_job=max((t["devices"] for t in trainers if isinstance(t["devices"], int)), default=1),
        on_cpu=all(trainer["accelerator"] == "cpu" for trainer in trainers),
        folder=sweep.path,
    )
    engine, policy = _parts(launcher)
    try:
        return construct(engine, demand=demand), construct(policy)
    except InvalidValue as error:
        raise error.under("hydra.launcher") from None


def _parts(launcher: Config) -> tuple[Config, Config]:
    """What the engine is made from, and what the policy."""
    policy = {key: value for key, value in launcher.items() if key in POLICY_KEYS}
    policy["_target_"] = public_name(FailurePolicy)
    return {key: value for key, value in launcher.items() if key not in POLICY_KEYS}, policy


def _grown(sweep: Sweep, asked: Sweep) -> Sweep:
    """A sweep as it is recorded, with the jobs that a command adds.

    Raises:
        UserError: the command lacks jobs of it, or searches elsewhere: it is another sweep.
    """
    known, before, words = {job.name: job for job in sweep.jobs}, split(sweep.command), split(asked.command)
    advice = f"choose another run_dir, or `mmtx resume {shlex.quote(str(sweep.path))}`"
    if before.sweeper or words.sweeper:
        if set(before.jobs) != set(words.jobs) or bool(before.sweeper) != bool(words.sweeper):
            raise UserError(f"run_dir={sweep.path} holds another sweep, of {' '.join(before.jobs)}; {advice}")
        return dataclasses.replace(asked, created=sweep.created, jobs=sweep.jobs)
    lacking = sorted(known.keys() - {job.name for job in asked.jobs})
    if lacking:
        raise UserError(f"run_dir={sweep.path} holds another sweep, with the job {lacking[0]}; {advice}")
    return dataclasses.replace(sweep, jobs=[known.get(job.name, job) for job in asked.jobs])


def _freeze(planned: Planned, folder: Path) -> None:
    """Writes the config that a job will run, unless it has one: conf/ may have changed since."""
    run = RunDirectory(folder / planned.job.name)
    if not run.config.exists():
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_config({**planned.config, "run_dir": None})


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise UserError(f"another process is running the sweep {folder}; wait for it, or end it first") from None
        yield
