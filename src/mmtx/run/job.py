"""One run, from its config to its last metric. Also what every rank of a run on several devices executes:
``python -m mmtx.run.job RUN_DIR``."""

from __future__ import annotations

import contextlib
import resource
import shlex
import signal
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmtx.config.compose import Config, read_config
from mmtx.config.redaction import redacted
from mmtx.data.worker import end_workers
from mmtx.errors import InvalidValue, ProcessDied, UserError
from mmtx.experiment import Experiment, assemble, construct
from mmtx.process.launch import MAKES_RANKS, launch
from mmtx.process.stopping import Interrupted, Obey, obeyed, recorded, show_progress
from mmtx.run.directory import RunDirectory
from mmtx.run.initial import initialise_from
from mmtx.run.interrupt import Interrupt, requeue
from mmtx.run.loading import contents, read_checkpoint
from mmtx.run.metrics import MetricsLog, finite
from mmtx.run.ranks import INTERRUPTED, NOT_BEGUN, run_ranks
from mmtx.run.source import fitted_state_for


def prepare(config: Config, run: RunDirectory) -> None:
    """Makes the run directory and writes what is known before the first step."""
    from mmtx.run.environment import describe

    run.create()
    kept = {**config, "run_dir": None}  # a repeated run gets a directory of its own
    run.write_config(kept)
    run.write_json(run.environment, describe(config["seed"]))
    run.set_status("running")


def begin(experiment: Experiment, run: RunDirectory) -> int:
    """Runs from the first step, in a directory that has no run yet. Gives the exit code.

    Raises:
        UserError: there is a run in the directory, or it cannot be made.
    """
    with obeyed(Obey.LATER):
        prepare(experiment.config, run)
        return start(experiment, run)


def start(experiment: Experiment, run: RunDirectory, checkpoint: Path | None = None) -> int:
    """Runs here, or in as many processes as there are devices; from a checkpoint if there is one. Gives the exit
    code. However it ends, unless it is killed, the status then says so."""
    here = launch()
    if not here.is_main:
        show_progress(False)
        return execute(experiment, run, checkpoint)
    with run.lock(), obeyed(Obey.LATER):
        run.set_status("running")
        run.write_json(run.directions, dict(experiment.directions))
        if experiment.training.num_devices == 1 or here.by is not None:
            return execute(experiment, run, checkpoint)
        try:
            return _execute_on_ranks(experiment.training.num_devices, run, checkpoint)
        except BaseException as error:
            return _ended(error, run)


def _execute_on_ranks(num_ranks: int, run: RunDirectory, checkpoint: Path | None) -> int:
    code, reason = run_ranks(run.path, num_ranks, checkpoint)
    if run.state() == "finished":  # whatever came as a rank left
        return 0
    told = code < 0 or reason == NOT_BEGUN
    if told:
        hint = " (as the kernel does where memory runs out)" if code == -signal.SIGKILL else ""
        print(f"mmtx: {reason}{hint}; the other ranks were ended", file=sys.stderr)
    if told or (code and run.state() == "running"):  # what the others then said of it is not the cause
        run.set_status("interrupted" if code in INTERRUPTED else "failed", reason)
    return code if code >= 0 else 1


def execute(experiment: Experiment, run: RunDirectory, checkpoint: Path | None = None) -> int:
    """Trains, tests and writes the final metrics; records how it ended. Gives the exit code."""
    with obeyed(Obey.LATER), recorded(partial(_ended_at_once, run)):
        try:
            with obeyed(Obey.AT_ONCE):  # until there is something to save, see `Interrupt`
                metrics = _train(experiment, run, checkpoint)
            if launch().is_main:
                run.write_json(run.metrics, finite(metrics))
                run.set_status("finished")
            return 0
        except RuntimeError as error:
            return _ended(explained(error, experiment), run)
        except BaseException as error:
            return _ended(error, run)
        finally:
            end_workers()


def _ended(error: BaseException, run: RunDirectory) -> int:
    """Says why a run ends, in one line where there is nothing to debug, and gives its exit code."""
    code, state, told = 1, "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    here = launch()
    if isinstance(error, Interrupted):
        code, state, told = error.exit_code, "interrupted", str(error)
        if error.number == signal.SIGUSR1 and here.is_main:
            requeue()
    elif isinstance(error, UserError):
        code = 2
    elif not isinstance(error, ProcessDied):
        traceback.print_exc()
    if not here.is_main and code == 1 and not isinstance(error, ProcessDied) and run.state() == "running":
        run.set_status(state, f"rank {here.rank}: {told}")  # the others then fail for want of it
    if here.is_main:
        with contextlib.suppress(OSError):  # the reason may be that the directory is gone
            if run.state() != "failed":
                run.set_status(state, told)
        again = f"mmtx resume {shlex.quote(str(run.path))}"
        kept = f"; step {run.checkpointed} is saved: {again}" if run.checkpointed is not None else ""
        said = redacted(str(error) if isinstance(error, UserError | ProcessDied) else told)
        print(f"mmtx: {said}{kept}", file=sys.stderr)
    return code


def _ended_at_once(run: RunDirectory, number: int) -> None:
    """Records the end of a process that ends without saving."""
    if launch().is_main and run.state() == "running":
        run.set_status("interrupted", f"ended at once by {signal.Signals(number).name}")


def _train(experiment: Experiment, run: RunDirectory, checkpoint: Path | None) -> dict[str, float]:
    import lightning.pytorch as pl

    from mmtx.run.wandb.log import WandbLog
    from mmtx.training.module import MultimodalModule

    quieten()
    config, plugins, main = experiment.config, experiment.config["plugins"], launch().is_main
    if config.get("init_from") and checkpoint is None:
        report = initialise_from(experiment.learner, config["init_from"], plugins, config)
        if main:
            print(report, flush=True)
    pl.seed_everything(config["seed"], workers=False, verbose=False)
    saved = read_checkpoint(checkpoint) if checkpoint is not None else None
    if saved is not None:
        keep_global_batch(experiment, saved["mmtx"]["samples_per_step"])
    log = MetricsLog(run.metrics_log, saved["mmtx"]["log_lines"] if saved else 0) if main else None
    loggers: list[Any] = [log] if log is not None else []
    runtime = {"run_dir": run.path, "config": redacted(config)}
    loggers += [construct(node, plugins)(**runtime) for node in config["logger"].values()] if main else []
    callbacks = [construct(node, plugins) for node in config["callbacks"].values()]
    callbacks += [_checkpoints(experiment).of(run, contents(experiment)), Interrupt()]
    training, total_steps = experiment.training, experiment.total_steps
    module = MultimodalModule(
        learner=experiment.learner,
        optimisation=experiment.optimisation,
        data=experiment.data,
        total_steps=total_steps,
        accumulate=training.accumulate_grad_batches,
        log_every_steps=config["log_every_steps"],
        seed=config["seed"],
        max_skips=training.max_skips,
        data_timeout_s=training.data_timeout_s,
        checkpoint=saved,
    )
    per_step = experiment.data.batch_size * training.accumulate_grad_batches * training.num_ranks
    trainer = training.trainer(
        total_steps=total_steps,
        epoch_steps=max(1, experiment.data.num_train // per_step),
        run_dir=run.path,
        loggers=loggers,
        callbacks=callbacks,
    )
    wandb_logs = [logger for logger in loggers if isinstance(logger, WandbLog)]
    for wandb_log in wandb_logs:
        wandb_log.start()
    ended: BaseException | None = None
    try:
        trainer.fit(module)
        if module.validated != total_steps:
            trainer.validate(module, verbose=False)
        if experiment.data.source.test() is not None:
            trainer.test(module, verbose=False)
        else:
            module.test_by_acting()
    except RuntimeError as error:
        ended = explained(error, experiment)
        raise ended from error
    except BaseException as error:
        ended = error
        raise
    finally:
        for wandb_log in wandb_logs:
            wandb_log.finish(ended)
        if log is not None:
            log.close()
    return module.metrics


def _checkpoints(experiment: Experiment) -> Any:
    made = construct(experiment.config["checkpoint"], experiment.config["plugins"])()
    return made.choosing(experiment.directions)


def explained(error: RuntimeError, experiment: Experiment) -> Exception:
    """The error as a user can read it, if it tells of memory that is exhausted, of a worker that died or hangs, or of a
    rank that has gone or never came."""
    if str(error).startswith("DataLoader "):
        told, current = str(error).splitlines()[0], experiment.data.current
        samples = current.samples(told) if current is not None else []
        where = f"it was on sample {' and '.join(map(str, samples))}; " if samples else ""
        hint = "look at what reads the data, and at memory; loader.num_workers=0 shows the error itself"
        return ProcessDied(f"{told} (trainer.data_timeout_s bounds the wait); {where}{hint}")
    if "by peer" in str(error):
        return ProcessDied("another rank has ended")
    here = launch()
    if here.by is not None and isinstance(error, torch.distributed.DistStoreError | torch.distributed.DistNetworkError):
        told = f"{here.num_ranks} ranks of {here.by} have not met at {here.address}:{here.port}"
        hint = f"start all of them or, if nothing has started ranks, unset {MAKES_RANKS[here.by]}"
        return ProcessDied(f"{told} ({str(error).splitlines()[0]}); {hint}")
    if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
        return error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    model, size = experiment.learner.model, experiment.data.batch_size
    tokens = size * sum(model.tokenizer(name).max_tokens for name in model.names)
    return UserError(
        f"out of memory: {peak / 2**30:.1f} GiB at the peak, with up to {tokens:,} tokens in a batch; lower "
        f"loader.batch_size={size} (and raise trainer.accumulate_grad_batches to learn the same), the context, or "
        f"backbone.dim; trainer.precision=bf16-mixed halves activations"
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


def quieten() -> None:
    """Silences what Lightning says about itself; what concerns a run, mmtx says."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings(
        "ignore", message=".*(num_workers|log_every_n_steps|litmodels|does not have many workers).*"
    )
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def main() -> int:
    """One rank of a run: its directory, and the checkpoint to go on from if there is one."""
    show_progress(launch().is_main)
    run = RunDirectory(Path(sys.argv[1]))
    config, checkpoint = read_config(run.config), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    return execute(assemble(config, fitted_state_for(config, checkpoint)), run, checkpoint)
