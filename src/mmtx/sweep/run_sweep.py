"""``mmtx train -m`` and ``mmtx resume SWEEP``: jobs started, searched for and recorded until the sweep is done."""

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmtx.config.construct import construct
from mmtx.config.schema import Config
from mmtx.config.stored import read_config
from mmtx.config.sweeps import with_sweep_files
from mmtx.errors import InvalidValue, UserError
from mmtx.process.child_processes import worker_command
from mmtx.process.launch import launch
from mmtx.run.directory import RunDirectory, fresh_directory
from mmtx.run.lock import lock
from mmtx.run.run_record import read_json
from mmtx.sweep.engine import Demand, Engine
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.job_queue import JobQueue
from mmtx.sweep.plan import Planned, TrialPlanner
from mmtx.sweep.record import Job, Sweep, now, read_sweep, summary
from mmtx.sweep.runner import SweepRunner
from mmtx.sweep.settings import PLUGINS, check_launcher, check_sweeper, engine_and_policy, monitored, plan_sweep, split
from mmtx.sweep.space import search_space
from mmtx.sweep.view import View, view_for


def run_sweep(config_file: str | None, overrides: list[str], run_dir: str | None) -> int:
    """Plans a sweep and runs it; where the directory already holds it, what of it is not done. Returns the exit code.

    Raises:
        UserError: anything is wrong with any job, or the directory holds something else. Nothing is then started.
    """
    launch().check_alone()
    given = split(overrides)
    launcher, sweeper = check_launcher(given.launcher), check_sweeper(given.sweeper)
    config_file = str(Path(config_file).absolute()) if config_file is not None else None
    planned = plan_sweep(given, sweeper, config_file)
    folder = (Path(run_dir).expanduser() if run_dir else fresh_directory(planned[0].config["name"])).absolute()
    if (folder / "status.json").exists():
        raise UserError(f"run_dir={folder} already holds a run; a sweep needs a directory of its own")
    jobs = [each.job for each in planned] if sweeper is None else []
    sweep = Sweep(folder, with_sweep_files(overrides), config_file, now(), "running", jobs)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if sweep.file.exists():
            sweep = _grown(read_sweep(folder), sweep)
        if sweeper is None:
            for each in planned:
                _freeze(each, folder)
        return _run(sweep, launcher, sweeper, [each.config for each in planned], planned)


def resume_sweep(folder: Path | str, overrides: Sequence[str]) -> int:
    """Runs what of a sweep is not done, from its frozen configs. Returns the exit code.

    Args:
        folder: of the sweep.
        overrides: of its launcher or sweeper, on top of those it was started with.

    Raises:
        UserError: there is no sweep, another process is running it, or an override is for the jobs.
    """
    launch().check_alone()
    given = split(overrides)
    if given.jobs:
        only = "only hydra.launcher.* and hydra.sweeper.* can be given here"
        raise UserError(f"{given.jobs[0]} would change jobs that have begun; {only}")
    sweep = read_sweep(folder)
    before = split(sweep.command)
    launcher = check_launcher([*before.launcher, *given.launcher])
    sweeper = check_sweeper([*before.sweeper, *given.sweeper])
    with _locked(sweep.path):
        sweep = read_sweep(folder)
        left = [job for job in sweep.jobs if not job.is_done]
        configs = [read_config(sweep.path / job.name / "config.yaml") for job in left]
        planned = plan_sweep(before, sweeper, sweep.config_file) if sweeper is not None else []
        return _run(sweep, launcher, sweeper, [*configs, *(each.config for each in planned)], planned)


def _run(
    sweep: Sweep, launcher: Config, sweeper: Config | None, configs: Sequence[Config], planned: Sequence[Planned]
) -> int:
    for job in sweep.jobs:  # what a launcher that was killed could not write down
        if not job.is_done and read_json(sweep.path / job.name / "status.json").get("state") == "finished":
            job.state, job.reason = "finished", None
    engine, policy = _engine(launcher, sweep, sweeper, configs)
    metric = configs[0]["checkpoint"]["monitor"] if configs else None
    view = view_for(metric)
    view.message(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    queue = JobQueue(sweep.jobs) if sweeper is None else _search(sweeper, sweep, planned[0], view)
    code = SweepRunner(sweep=sweep, queue=queue, engine=engine, policy=policy, command=worker_command, view=view).run()
    for job in sweep.jobs:
        if job.state == "failed":
            view.message(f"failed: {job.name}: {job.reason}; see {sweep.path / job.name / 'log.txt'}")
    view.message(f"sweep directory: {sweep.path}  ({summary(sweep.jobs)})")
    if sum(job.state == "finished" for job in sweep.jobs) > 1:
        view.message(f"`mmtx report {shlex.quote(str(sweep.path))}` compares them, and says what seeds alone may make")
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

    given: dict[str, Any] = {"sweep": sweep, "axes": axes, "make": make, "report": view.message}
    given |= {"monitor": monitored(like.config), "directions": like.directions}
    try:
        search = construct(sweeper, PLUGINS, **given)
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
    engine, policy = engine_and_policy(launcher)
    try:
        return construct(engine, demand=demand), construct(policy)
    except InvalidValue as error:
        raise error.under("hydra.launcher") from None


def _grown(sweep: Sweep, requested: Sweep) -> Sweep:
    """A sweep as it is recorded, with the jobs that a command adds.

    Raises:
        UserError: the command lacks jobs of it, or searches elsewhere: it is another sweep.
    """
    known, before, given = {job.name: job for job in sweep.jobs}, split(sweep.command), split(requested.command)
    advice = f"choose another run_dir, or `mmtx resume {shlex.quote(str(sweep.path))}`"
    if before.sweeper or given.sweeper:
        if set(before.jobs) != set(given.jobs) or bool(before.sweeper) != bool(given.sweeper):
            raise UserError(f"run_dir={sweep.path} holds another sweep, of {' '.join(before.jobs)}; {advice}")
        return dataclasses.replace(requested, created=sweep.created, jobs=sweep.jobs)
    lacking = sorted(known.keys() - {job.name for job in requested.jobs})
    if lacking:
        raise UserError(f"run_dir={sweep.path} holds another sweep, with the job {lacking[0]}; {advice}")
    return dataclasses.replace(sweep, jobs=[known.get(job.name, job) for job in requested.jobs])


def _freeze(planned: Planned, folder: Path) -> None:
    """Writes the config that a job will run, unless it has one: conf/ may have changed since."""
    run = RunDirectory(folder / planned.job.name)
    if not run.config.exists():
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_config({**planned.config, "run_dir": None})


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise UserError(f"another process is running the sweep {folder}; wait for it, or end it first") from None
        yield
