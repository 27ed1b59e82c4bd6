"""Plans the jobs of a sweep: composes and checks every config, and names the job after its overrides."""

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmtx.config.compose import Composer
from mmtx.config.schema import Config
from mmtx.config.stored import read_config, with_overrides
from mmtx.config.sweeps import expand_sweep
from mmtx.errors import ConfigErrors, UserError
from mmtx.experiment import Experiment, assemble, data_part, model_part
from mmtx.metric_directions import Directions
from mmtx.run.begun_with import pinned_config
from mmtx.run.fitted_source import fitted_state_for
from mmtx.sweep.record import Job

LONGEST_SLUG = 100
MOST_SHOWN = 20


@dataclass(frozen=True)
class Planned:
    """A job, its config, and which way each of its metrics is better."""

    job: Job
    config: Config
    directions: Directions


def plan(overrides: Sequence[str], config_file: str | None) -> list[Planned]:
    """The jobs of a sweep.

    Signatures, optimiser, trainer, callbacks and loggers are checked for every job. Datasets and models are constructed
    once for each of their configs: jobs that differ in the learning rate share them.

    Args:
        overrides: some with several values.
        config_file: a saved config that they change; None: a new one.

    Raises:
        ConfigErrors: with everything that is wrong with any job.
    """
    lists = expand_sweep(overrides)
    swept = [i for i in range(len(lists[0])) if len({each[i] for each in lists}) > 1]
    configs: list[Config | None] = [None] * len(lists)
    found: dict[str, list[str]] = {}  # jobs by problem
    for index, each in enumerate(_compose_all(lists, config_file)):
        if isinstance(each, UserError):
            _note(found, each, [lists[index][i] for i in swept])
        else:
            configs[index] = each
    planned: dict[int, Planned] = {}
    experiment = None
    for index in _grouped_indices(configs):
        config = configs[index]
        assert config is not None
        try:
            experiment = assemble(config, fitted_state_for(config), like=experiment)
        except UserError as error:
            _note(found, error, [lists[index][i] for i in swept])
            continue
        name = f"{slug([lists[index][i] for i in swept])}-{_short_hash(lists[index], config_file)}"
        job = Job(name, [lists[index][i] for i in swept], steps=experiment.total_steps, cost=_cost(experiment))
        planned[index] = Planned(job, config, experiment.directions)
    if found:
        raise ConfigErrors(list(_by_job(found, len(lists))))
    names = [planned[index].job.name for index in range(len(lists))]
    if len(set(names)) < len(names):
        same = lists[next(index for index, name in enumerate(names) if names.count(name) > 1)]
        twice = " ".join(word for word in same if word not in overrides)
        raise UserError(f"two jobs of the sweep are the same ({twice}); remove the value that is given twice")
    return [planned[index] for index in range(len(lists))]


class TrialPlanner:
    """Plans the jobs of a search, one by one. They share a dataset and a model as those of a plan do.

    Args:
        fixed: overrides of all jobs.
        config_file: a saved config that they change; None: a new one.
    """

    def __init__(self, fixed: Sequence[str], config_file: str | None) -> None:
        self._fixed, self._config_file = fixed, config_file
        self._experiment: Experiment | None = None
        self._requested: deque[list[str]] = deque()
        self._configs = _compose_all(
            iter(self._requested.popleft, None), config_file
        )  # files are read for the first only

    def __call__(self, number: int, overrides: Sequence[str]) -> Planned:
        """Raises UserError with everything that is wrong with the job."""
        every = [*self._fixed, *overrides]
        self._requested.append(every)
        config = next(self._configs)
        if isinstance(config, UserError):
            raise config
        self._experiment = assemble(config, fitted_state_for(config), like=self._experiment)
        short = slug([_rounded(override) for override in overrides])
        name = f"{number:03},{short}-{_short_hash(every, self._config_file)}"
        job = Job(name, list(overrides), steps=self._experiment.total_steps)
        return Planned(job, config, self._experiment.directions)


def _rounded(override: str) -> str:
    key, _, value = override.partition("=")
    try:
        return f"{key}={float(value):.4g}"
    except ValueError:
        return override


def slug(overrides: Sequence[str]) -> str:
    """The overrides of a job as a name that can be read and typed: ``lr=1e-3,seed=1``."""
    last = [re.split(r"[./]", o.partition("=")[0].lstrip("+~"))[-1] for o in overrides]
    words = []
    for key, override in zip(last, overrides, strict=True):
        full, _, value = override.lstrip("+~").partition("=")
        words.append(f"{key if last.count(key) == 1 else full}={value}")
    text = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", ",".join(words).replace("[", "").replace("]", ""))
    return text[:LONGEST_SLUG].rstrip("_,=") or "job"


def _short_hash(overrides: Sequence[str], config_file: str | None) -> str:
    """A hash of all overrides, so that no other command has the directory of this one."""
    return hashlib.sha256(json.dumps([sorted(overrides), config_file]).encode()).hexdigest()[:6]


def _compose_all(lists: Iterable[Sequence[str]], config_file: str | None) -> Iterator[Config | UserError]:
    if config_file is not None:
        saved = read_config(config_file)
        for overrides in lists:
            yield _or_error(lambda overrides=overrides: with_overrides(saved, overrides))  # type: ignore[misc]
        return
    with Composer() as composer:
        for overrides in lists:
            yield _or_error(lambda overrides=overrides: composer.compose(overrides))  # type: ignore[misc]


def _or_error(make: Callable[[], Config]) -> Config | UserError:
    try:
        return pinned_config(make())
    except UserError as error:
        return error


def _grouped_indices(configs: Sequence[Config | None]) -> list[int]:
    """Indices ordered so that jobs of one dataset, and within it those of one model, are neighbours."""
    keys = {
        index: (json.dumps(data_part(config), default=str), json.dumps(model_part(config), default=str))
        for index, config in enumerate(configs)
        if config is not None
    }
    return sorted(keys, key=lambda index: keys[index])


def _cost(experiment: Experiment) -> float:
    return float(experiment.total_steps) * experiment.samples_per_step * experiment.learner.num_parameters


def _note(found: dict[str, list[str]], error: UserError, overrides: Sequence[str]) -> None:
    for message in error.findings if isinstance(error, ConfigErrors) else [str(error)]:
        found.setdefault(message, []).append(" ".join(overrides))


def _by_job(found: dict[str, list[str]], num_jobs: int) -> Iterator[str]:
    for message, jobs in list(found.items())[:MOST_SHOWN]:
        others = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        yield message if len(jobs) == num_jobs else f"{jobs[0]}{others}: {message}"
    if len(found) > MOST_SHOWN:
        yield f"... and {len(found) - MOST_SHOWN} other problems"
