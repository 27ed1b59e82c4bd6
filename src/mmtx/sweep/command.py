"""``mmtx train -m`` and ``mmtx resume SWEEP``."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmtx import check
from mmtx.compose import Config, compose_launcher, read_config
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.experiment import construct
from mmtx.redaction import redacted
from mmtx.run.directory import fresh_directory
from mmtx.run.worker import command as job_command
from mmtx.sweep.drive import Drive
from mmtx.sweep.engine import Demand, Engine
from mmtx.sweep.outcome import read_status
from mmtx.sweep.plan import Planned, plan
from mmtx.sweep.policy import Policy
from mmtx.sweep.record import Sweep, now, read_sweep, summary
from mmtx.sweep.view import view_for

POLICY_KEYS = set(inspect.signature(Policy).parameters)


def split_launcher(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the jobs, and those of the launcher without Hydra's name before them."""
    of_jobs: list[str] = []
    of_launcher: list[str] = []
    for override in overrides:
        plain = override.lstrip("+")
        plain = plain[len("hydra") + 1 :] if plain.startswith(("hydra/", "hydra.")) else plain
        is_launcher = plain.startswith(("launcher=", "launcher."))
        (of_launcher if is_launcher else of_jobs).append(plain if is_launcher else override)
    return of_jobs, of_launcher


def run_sweep(config_file: str | None, overrides: list[str], run_dir: str | None) -> int:
    """Plans a sweep and runs it; where the directory already holds it, what is not done of it. Gives the exit code.

    Raises:
        UserError: anything is wrong with any job, or the directory holds something else. Nothing is then started.
    """
    of_jobs, of_launcher = split_launcher(overrides)
    launcher = check_launcher(of_launcher)
    config_file = str(Path(config_file).absolute()) if config_file is not None else None
    planned = plan(of_jobs, config_file)
    folder = (Path(run_dir).expanduser() if run_dir else fresh_directory(planned[0].config["name"])).absolute()
    if (folder / "status.json").exists():
        raise UserError(f"run_dir={folder} already holds a run; a sweep needs a directory of its own")
    sweep = Sweep(folder, overrides, config_file, now(), "running", [each.job for each in planned])
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if sweep.file.exists():
            sweep = _grown(read_sweep(folder), planned)
        for each in planned:
            _freeze(each, folder)
        return _run(sweep, launcher, [each.config for each in planned])


def resume_sweep(folder: Path | str, overrides: Sequence[str]) -> int:
    """Runs what is not done of a sweep, from its frozen configs. Gives the exit code.

    Args:
        folder: of the sweep.
        overrides: of its launcher, on top of those it was started with.

    Raises:
        UserError: there is no sweep, another process is at it, or an override is for the jobs.
    """
    of_jobs, of_launcher = split_launcher(overrides)
    if of_jobs:
        raise UserError(f"{of_jobs[0]} would change jobs that have begun; only hydra.launcher.* can be given here")
    sweep = read_sweep(folder)
    launcher = check_launcher([*split_launcher(sweep.command)[1], *of_launcher])
    with _alone(sweep.path):
        sweep = read_sweep(folder)
        left = [job for job in sweep.jobs if not job.is_done]
        return _run(sweep, launcher, [read_config(sweep.path / job.name / "config.yaml") for job in left])


def check_launcher(overrides: Sequence[str]) -> Config:
    """The launcher's config.

    Raises:
        ConfigErrors: with everything that is wrong with it.
    """
    config = compose_launcher(overrides)
    engine, policy = _parts(config)
    found = check.node_findings(engine, "hydra.launcher", {"demand"})
    found += check.node_findings(policy, "hydra.launcher", set())
    if found:
        raise ConfigErrors([finding.message for finding in found])
    return config


def _run(sweep: Sweep, launcher: Config, configs: Sequence[Config]) -> int:
    for job in sweep.jobs:  # what a launcher that was killed could not write down
        if not job.is_done and read_status(sweep.path / job.name).get("state") == "finished":
            job.state, job.reason = "finished", None
    engine, policy = _engine(launcher, sweep, configs)
    metric = configs[0]["checkpoint"]["monitor"] if configs else None
    view = view_for(metric)
    view.say(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    code = Drive(sweep=sweep, engine=engine, policy=policy, command=job_command, view=view).run()
    for job in sweep.jobs:
        if job.state == "failed":
            view.say(f"failed: {job.name}: {job.reason}; see {sweep.path / job.name / 'log.txt'}")
    view.say(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    if code:
        view.say(f"`mmtx resume {sweep.path}` runs what is not done")
    return code


def _engine(launcher: Config, sweep: Sweep, configs: Sequence[Config]) -> tuple[Engine, Policy]:
    trainers = [config["trainer"] for config in configs]
    demand = Demand(
        num_jobs=len([job for job in sweep.jobs if not job.is_done]),
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
    policy["_target_"] = f"{Policy.__module__}.Policy"
    return {key: value for key, value in launcher.items() if key not in POLICY_KEYS}, policy


def _grown(sweep: Sweep, planned: Sequence[Planned]) -> Sweep:
    """A sweep as it is recorded, with the jobs that a command adds.

    Raises:
        UserError: the command lacks jobs of it: it is another sweep.
    """
    known = {job.name: job for job in sweep.jobs}
    lacking = sorted(known.keys() - {each.job.name for each in planned})
    if lacking:
        message = f"run_dir={sweep.path} holds another sweep, with the job {lacking[0]}"
        raise UserError(f"{message}; choose another run_dir, or `mmtx resume {sweep.path}`")
    return dataclasses.replace(sweep, jobs=[known.get(each.job.name, each.job) for each in planned])


def _freeze(planned: Planned, folder: Path) -> None:
    """Writes the config that a job will run, unless it has one: conf/ may have changed since."""
    file = folder / planned.job.name / "config.yaml"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        config = redacted({**planned.config, "run_dir": None})
        file.write_text(yaml.dump(config, Dumper=dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is running the sweep {folder}; wait for it, or end it first") from None
        yield
