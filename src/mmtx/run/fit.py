"""One run from its first step, or from a checkpoint, to its final metrics."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmtx.config.construct import construct
from mmtx.config.redaction import redacted
from mmtx.errors import InvalidValue
from mmtx.experiment import Experiment
from mmtx.process.launch import launch
from mmtx.run.checkpoint_content import contents
from mmtx.run.directory import RunDirectory
from mmtx.run.failure import explained
from mmtx.run.init_from import initialise_from
from mmtx.run.interrupt import Interrupt
from mmtx.run.metrics_log import MetricsLog
from mmtx.run.reference import keep_reference, load_reference


def fit(experiment: Experiment, run: RunDirectory, saved: dict[str, Any] | None = None) -> dict[str, float]:
    """Trains, validates and tests. Gives the final metrics.

    Args:
        experiment: whose learner is trained in place.
        run: where to.
        saved: the checkpoint to go on from, as `read_checkpoint` gives it.
    """
    import lightning.pytorch as pl

    from mmtx.training.checkpoint_state import restore
    from mmtx.training.lightning_module import MultimodalModule

    _quieten()
    config, training, total_steps = experiment.config, experiment.training, experiment.total_steps
    if saved is None and config["init_from"]:
        report = initialise_from(experiment.learner, config["init_from"], config["plugins"], config)
        if launch().is_main:
            print(report, flush=True)
    pl.seed_everything(config["seed"], workers=False, verbose=False)
    if saved is not None:
        keep_global_batch(experiment, saved["mmtx"]["samples_per_step"])
    loggers = _loggers(experiment, run, saved) if launch().is_main else []
    module = MultimodalModule(
        learner=experiment.learner,
        optimisation=experiment.optimisation,
        data=experiment.data,
        total_steps=total_steps,
        accumulate=training.accumulate_grad_batches,
        samples_per_step=experiment.samples_per_step,
        log_every_steps=config["log_every_steps"],
        seed=config["seed"],
        max_skips=training.max_skips,
        data_timeout_s=training.data_timeout_s,
        peak_tflops=training.peak_tflops,
        restore=None if saved is None else partial(restore, checkpoint=saved),
    )
    trainer = training.trainer(
        total_steps=total_steps,
        epoch_steps=max(1, experiment.data.num_train // experiment.samples_per_step),
        run_dir=run.path,
        loggers=loggers,
        callbacks=_callbacks(experiment, run, _contents(experiment, run, saved)),
    )
    with _logged(loggers, experiment):
        trainer.fit(module)
        if module.validated != total_steps:
            trainer.validate(module, verbose=False)
        if experiment.data.source.test() is not None:
            trainer.test(module, verbose=False)
        else:
            module.test_by_acting()
    return module.metrics


def keep_global_batch(experiment: Experiment, samples_per_step: int) -> None:
    """Accumulates as much as makes a step of as many samples as before, on another number of devices.

    Raises:
        InvalidValue: no accumulation does.
    """
    training, whole = experiment.training, samples_per_step
    at_once = experiment.data.batch_size * training.num_ranks
    if whole % at_once:
        fitting = [str(n) for n in range(1, whole + 1) if whole % (experiment.data.batch_size * n) == 0]
        problem = f"cannot make steps of {whole} samples of batches of {experiment.data.batch_size}"
        raise InvalidValue("trainer.devices", training.num_ranks, problem, ", ".join(fitting))
    training.accumulate_grad_batches = whole // at_once


def _loggers(experiment: Experiment, run: RunDirectory, saved: dict[str, Any] | None) -> list[Any]:
    """The log of metrics and those that the config chooses."""
    config = experiment.config
    log = MetricsLog(run.metrics_log, saved["mmtx"]["log_lines"] if saved is not None else 0)
    made = [construct(node, config["plugins"]) for node in config["logger"].values()]
    return [log, *(make(run_dir=run.path, config=redacted(config)) for make in made)]


def _contents(experiment: Experiment, run: RunDirectory, saved: dict[str, Any] | None) -> dict[str, Any]:
    """What checkpoints hold beside the state, and the reference, if an objective compares with one."""
    held, learner = contents(experiment), experiment.learner
    if not learner.uses_reference:
        return held
    if saved is None:
        return {**held, "reference": keep_reference(learner, run, held)}
    load_reference(learner, run.reference, saved["mmtx"]["reference"])
    return {**held, "reference": saved["mmtx"]["reference"]}


def _callbacks(experiment: Experiment, run: RunDirectory, contents: dict[str, Any]) -> list[Any]:
    from mmtx.training.step_profile import StepProfile

    config = experiment.config
    chosen = [construct(node, config["plugins"]) for node in config["callbacks"].values()]
    checkpoints = construct(config["checkpoint"], config["plugins"])().choosing(experiment.directions)
    profiles = [StepProfile(run.path)] if experiment.training.profile else []
    return [*profiles, *chosen, checkpoints.of(run, contents), Interrupt()]


@contextmanager
def _logged(loggers: Sequence[Any], experiment: Experiment) -> Iterator[None]:
    """Opens W&B, and at the end shows there how the run ended and closes the log of metrics."""
    from mmtx.run.wandb.log import WandbLog

    wandb_logs = [logger for logger in loggers if isinstance(logger, WandbLog)]
    for wandb_log in wandb_logs:
        wandb_log.start()
    ended: BaseException | None = None
    try:
        yield
    except RuntimeError as error:
        ended = explained(error, experiment)
        raise ended from error
    except BaseException as error:
        ended = error
        raise
    finally:
        for wandb_log in wandb_logs:
            wandb_log.finish(ended)
        for metrics_log in (logger for logger in loggers if isinstance(logger, MetricsLog)):
            metrics_log.close()


def _quieten() -> None:
    """Silences what Lightning prints about itself; what concerns a run, mmtx prints."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings(
        "ignore", message=".*(num_workers|log_every_n_steps|litmodels|does not have many workers).*"
    )
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
