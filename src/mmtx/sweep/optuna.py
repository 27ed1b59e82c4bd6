"""A search by Optuna: the jobs of a sweep are the trials of a study."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.metric_directions import Direction, Directions, direction_of
from mmtx.run.run_record import read_run
from mmtx.sweep.job_queue import JobQueue
from mmtx.sweep.record import Job, Sweep
from mmtx.sweep.space import Axis

try:
    import optuna
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError:
    raise UserError("hydra/sweeper=optuna needs optuna: pip install 'mmtx[search]'") from None

Word = Literal["minimize", "maximize"]
WORDS: dict[Direction, Word] = {"min": "minimize", "max": "maximize"}
"""Optuna's words for directions."""

KEYS = ("hydra.sweeper.metric", "hydra.sweeper.direction")
"""Where the metric and its direction are given."""

TRIAL_STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
"""By the state of a job that has ended."""
JOB_STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}


class Search(JobQueue):
    """The trials of a study, stored in ``study.db`` of the sweep's directory. A job is a trial; one that is half done
    when the sweep ends is continued as the same trial, and one that has failed is retried as a new one.

    Args:
        n_trials: jobs in all.
        metric: one or several to optimise; None: that of the best checkpoint.
        direction: ``minimize`` or ``maximize``, one for each metric; None: as declared.
        seed: of the sampler.
        sampler: constructs one from its seed.
        pruner: stops jobs early by the values that they have logged.
        sweep: to which jobs are added.
        axes: of the search.
        monitor: metric of the best checkpoint, and its mode, if one is given.
        directions: which way each metric of a job is better.
        make: plans the job of a trial's number and overrides; raises UserError where they do not go together.
        report: shows a line to the user.
    """

    def __init__(
        self,
        *,
        n_trials: int,
        metric: str | list[str] | None,
        direction: Word | list[Word] | None,
        seed: int,
        sampler: Callable[..., Any],
        pruner: Any,
        sweep: Sweep,
        axes: Sequence[Axis],
        monitor: tuple[str | None, Direction | None],
        directions: Directions,
        make: Callable[[int, Sequence[str]], Job],
        report: Callable[[str], None],
    ) -> None:
        check_at_least("n_trials", n_trials, 1)
        wanted = goals(metric, direction, pruner, monitor, directions)
        self._metrics, self._prunes = list(wanted), _prunes(pruner)
        self._n_trials, self._sweep, self._make, self._report = n_trials, sweep, make, report
        self._distributions = {axis.key: _distribution(axis) for axis in axes}
        self._study = _study(sweep.path / "study.db", wanted, pruner)
        past = self._study.get_trials(deepcopy=False)
        self._study.sampler = sampler(seed=seed + len(past))  # else a resumed search would draw the same again
        self._refused = sum("refused" in trial.user_attrs for trial in past)
        self._trials: dict[str, Trial] = {}
        self._logs: dict[str, Log] = {}
        self._recover(past)
        super().__init__(sweep.jobs)

    def next(self) -> Job | None:
        return super().next() or self._next_trial()

    def to_prune(self, running: Sequence[Job]) -> list[tuple[Job, str]]:
        found = []
        for job in running if self._prunes else ():
            trial, step, value = self._trials[job.name], None, None
            for step, value in self._logs[job.name].new_values():
                trial.report(value, step)
            if step is not None and step < (job.steps or step + 1) and trial.should_prune():
                found.append((job, f"{self._metrics[0]}={value:.4g} at step {step}"))
        return found

    def ended(self, job: Job) -> None:
        if job.state == "interrupted":
            return
        values = None
        if job.state == "finished":
            metrics = read_run(self._sweep.path / job.name).metrics
            lacking = [metric for metric in self._metrics if metric not in metrics]
            if lacking:
                job.state = "failed"
                job.reason = f"logged no number as {', '.join(lacking)}; it has {', '.join(metrics)}"
            else:
                values = [metrics[metric] for metric in self._metrics]
        self._study.tell(self._trials[job.name], values, state=TRIAL_STATES[job.state])

    def _next_trial(self) -> Job | None:
        while len(self._sweep.jobs) + self._refused < self._n_trials:
            trial = self._study.ask(self._distributions)
            overrides = [f"{key}={value}" for key, value in trial.params.items()]
            try:
                job = self._make(trial.number, overrides)
            except UserError as error:
                self._report(f"trial {trial.number} cannot be run with {' '.join(overrides)}: {error}")
                trial.set_user_attr("refused", str(error))
                self._study.tell(trial, state=TrialState.FAIL)
                self._refused += 1
                continue
            self._begin(job, trial, 0)
            self._sweep.jobs.append(job)
            return job
        return None

    def _recover(self, past: Sequence[FrozenTrial]) -> None:
        """Reconciles the records of the sweep and of the study, whichever was written last."""
        newest = {trial.user_attrs["job"]: trial for trial in past if "job" in trial.user_attrs}
        for job in self._sweep.jobs:
            if job.name not in newest:
                raise UserError(
                    f"{self._sweep.path / 'study.db'} lacks the trial of {job.name}: it was lost or replaced"
                )
            frozen = newest[job.name]
            if frozen.state in JOB_STATES:  # the sweep's record was not written any more
                job.state = JOB_STATES[frozen.state]
            if frozen.state == TrialState.FAIL:
                self._study.enqueue_trial(frozen.params)
                self._begin(job, self._study.ask(self._distributions), 0)
            else:
                trial = Trial(self._study, frozen._trial_id)
                self._begin(job, trial, max(frozen.intermediate_values, default=0))
            if job.is_done and frozen.state in (TrialState.FAIL, TrialState.RUNNING):
                self.ended(job)
        with_job = {trial.number for trial in self._trials.values()}
        for frozen in past:  # the launcher was killed before the trial became a job
            if frozen.state == TrialState.RUNNING and frozen.number not in with_job:
                self._study.tell(frozen.number, state=TrialState.FAIL)

    def _begin(self, job: Job, trial: Trial, reported: int) -> None:
        """Makes the trial that of the job, whose values are reported up to a step."""
        if "job" not in trial.user_attrs:  # a trial that has ended cannot be changed
            trial.set_user_attr("job", job.name)
        self._trials[job.name] = trial
        self._logs[job.name] = Log(self._sweep.path / job.name / "metrics.jsonl", self._metrics[0], reported)


class Log:
    """The values of a metric that a run has logged since they were last read.

    Args:
        file: ``metrics.jsonl``, which may not be there yet.
        metric: its key.
        step: up to which they have been read.
    """

    def __init__(self, file: Path, metric: str, step: int) -> None:
        self._file, self._metric, self._step, self._read = file, metric, step, 0

    def new_values(self) -> Iterator[tuple[int, float]]:
        """Steps and values of complete lines."""
        try:
            with self._file.open("rb") as file:
                if file.seek(0, 2) < self._read:
                    self._read = 0  # a resumed job has removed the steps that it repeats
                file.seek(self._read)
                lines = file.read().split(b"\n")[:-1]
        except OSError:
            return
        for line in lines:
            self._read += len(line) + 1
            row = json.loads(line) if self._metric.encode() in line else {}
            if row.get(self._metric) is not None and row["step"] > self._step:
                self._step = row["step"]
                yield row["step"], row[self._metric]


def goals(
    metric: str | list[str] | None,
    direction: Word | list[Word] | None,
    pruner: Any,
    monitor: tuple[str | None, Direction | None],
    directions: Directions,
) -> dict[str, Direction]:
    """The metrics that are optimised, and which way; see `Search` for the arguments.

    Raises:
        InvalidValue: a metric is missing or not declared, a direction contradicts it, or several metrics are pruned.
    """
    metrics = metric if isinstance(metric, list) else [each for each in (metric or monitor[0],) if each]
    if not metrics:
        raise InvalidValue(KEYS[0], metric, "is needed: the run has no checkpoint.monitor")
    if len(set(metrics)) < len(metrics):
        raise InvalidValue(KEYS[0], metrics, "names a metric twice")
    given = direction if isinstance(direction, list) else [direction] * len(metrics)
    if len(given) != len(metrics) or set(given) - {*WORDS.values(), None}:
        raise InvalidValue(KEYS[1], direction, f"must be minimize or maximize, for each of {', '.join(metrics)}")
    if _prunes(pruner) and len(metrics) > 1:
        problem = "are several, and trials can be pruned by one only; add hydra/sweeper/pruner=none"
        raise InvalidValue(KEYS[0], metrics, problem)
    found: dict[str, Direction] = {}
    for each, word in zip(metrics, given, strict=True):
        if word is None and each == monitor[0] and monitor[1] is not None:
            word = WORDS[monitor[1]]
        found[each] = direction_of(each, word, directions, keys=KEYS, words=WORDS)
    return found


def _prunes(pruner: Any) -> bool:
    return not isinstance(pruner, optuna.pruners.NopPruner)


def _distribution(axis: Axis) -> Any:
    if axis.choices:
        return optuna.distributions.CategoricalDistribution(axis.choices)
    if isinstance(axis.low, int):
        return optuna.distributions.IntDistribution(axis.low, int(axis.high), axis.log, int(axis.step or 1))
    return optuna.distributions.FloatDistribution(axis.low, axis.high, axis.log, axis.step)


def _study(file: Path, wanted: dict[str, Direction], pruner: Any) -> Any:
    """The study of a sweep, new or as it was left.

    Raises:
        UserError: it optimises other metrics.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    directions: list[Any] = [WORDS[direction] for direction in wanted.values()]
    study = optuna.create_study(
        storage=f"sqlite:///{file}", study_name="sweep", directions=directions, pruner=pruner, load_if_exists=True
    )
    aims = [f"{WORDS[direction]} {metric}" for metric, direction in wanted.items()]
    stored = study.user_attrs.get("goals", aims)
    if stored != aims:
        raise UserError(f"the study in {file} is to {' and '.join(stored)}, not {' and '.join(aims)}")
    study.set_user_attr("goals", aims)
    return study
