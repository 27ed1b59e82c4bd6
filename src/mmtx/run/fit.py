"""One run from its first step, or from a checkpoint, to its final metrics."""

import warnings
from functools import partial
from typing import Any

import lightning.pytorch as pl

from mmtx.config.construct import construct
from mmtx.errors import InvalidValue
from mmtx.experiment import Experiment, fit_objectives
from mmtx.process.launch import launch
from mmtx.run.checkpoint_content import contents
from mmtx.run.directory import RunDirectory
from mmtx.run.failure import explained
from mmtx.run.init_parts import begin
from mmtx.run.interrupt import Interrupt
from mmtx.run.loggers import loggers_of, opened
from mmtx.run.reference import keep_reference, load_reference
from mmtx.run.reward_judges import give_judges
from mmtx.training.callbacks import suited
from mmtx.training.checkpoint_state import restore
from mmtx.training.lightning_module import MultimodalModule


def fit(experiment: Experiment, run: RunDirectory, saved: dict[str, Any] | None = None) -> dict[str, float]:
    """Trains, validates and tests. Gives the final metrics.

    Args:
        experiment: whose learner is trained in place.
        run: where to.
        saved: the checkpoint to go on from, as `read_checkpoint` gives it.
    """
    quieten()
    config, training, total_steps = experiment.config, experiment.training, experiment.total_steps
    if saved is None and config["init_from"]:
        reports = begin(experiment.learner, config)
        if launch().is_main:
            print(*reports, sep="\n", flush=True)
    if saved is None:
        fit_objectives(experiment.learner, config, experiment.data.source)
    give_judges(experiment.learner, experiment.data.source.specs)
    pl.seed_everything(config["seed"], workers=False, verbose=False)
    if saved is not None:
        keep_global_batch(experiment, saved["mmtx"]["samples_per_step"])
    loggers = loggers_of(config, run, saved["mmtx"]["log_lines"] if saved is not None else 0)
    module = module_of(experiment, saved)
    trainer = training.trainer(
        total_steps=total_steps,
        epoch_steps=max(1, experiment.data.num_train // experiment.samples_per_step),
        log_every_steps=config["log_every_steps"],
        run_dir=run.path,
        loggers=loggers,
        callbacks=_callbacks(experiment, run, _contents(experiment, run, saved)),
    )
    with opened(trainer, config, partial(explained, experiment=experiment)):
        trainer.fit(module)
        if module.validated != trainer.global_step:
            trainer.validate(module, verbose=False)
        if experiment.data.source.test() is not None:
            trainer.test(module, verbose=False)
        else:
            module.test_by_acting()
    return module.metrics


def module_of(experiment: Experiment, saved: dict[str, Any] | None = None) -> MultimodalModule:
    """What trains an experiment, from its first step or from a checkpoint."""
    config, training = experiment.config, experiment.training
    return MultimodalModule(
        learner=experiment.learner,
        optimisation=experiment.optimisation,
        data=experiment.data,
        total_steps=experiment.total_steps,
        accumulate=training.accumulate_grad_batches,
        samples_per_step=experiment.samples_per_step,
        log_every_steps=config["log_every_steps"],
        seed=config["seed"],
        max_skips=training.max_skips,
        data_timeout_s=training.data_timeout_s,
        peak_tflops=training.peak_tflops,
        restore=None if saved is None else partial(restore, checkpoint=saved),
    )


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
    made = [construct(node, config["plugins"]) for node in config["callbacks"].values()]
    chosen = [suited(callback, experiment.directions) for callback in made]
    checkpoints = construct(config["checkpoint"], config["plugins"])().choosing(experiment.directions)
    profiles = [StepProfile(run.path)] if experiment.training.profile else []
    return [*profiles, *chosen, checkpoints.of(run, contents), Interrupt()]


def quieten() -> None:
    """Silences what Lightning prints about itself; what concerns a run, mmtx prints."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings(
        "ignore", message=".*(num_workers|log_every_n_steps|litmodels|does not have many workers).*"
    )
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
