"""One run, from its config to its last metric. Also what every rank of a run on several devices executes:
``python -m mmtx.run.job RUN_DIR``."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import yaml

from mmtx.compose import Config
from mmtx.errors import UserError
from mmtx.experiment import Experiment, assemble, construct
from mmtx.run.directory import RunDirectory
from mmtx.run.initial import initialise_from
from mmtx.run.interrupt import Interrupt, Interrupted
from mmtx.run.loading import contents
from mmtx.run.metrics import MetricsLog, finite
from mmtx.run.ranks import run_ranks


def prepare(config: Config, run: RunDirectory) -> None:
    """Makes the run directory and writes what is known before the first step."""
    from mmtx.run.environment import describe

    run.create()
    kept = {**config, "run_dir": None}  # a repeated run gets a directory of its own
    run.config.write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), encoding="utf-8")
    run.write_json(run.environment, describe(config["seed"]))
    run.set_status("running")


def start(experiment: Experiment, run: RunDirectory) -> int:
    """Runs here, or in as many processes as there are devices. Gives the exit code."""
    from mmtx.training.trainer import started_by_launcher

    if experiment.training.num_devices == 1 or started_by_launcher():
        return execute(experiment, run)
    code = run_ranks(run.path, experiment.training.num_devices)
    if code and json.loads(run.status.read_text())["state"] == "running":
        run.set_status("failed", f"a rank ended with exit code {code}")
    return code if code >= 0 else 1


def execute(experiment: Experiment, run: RunDirectory) -> int:
    """Trains, tests and writes the final metrics; records how it ended. Gives the exit code."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    try:
        metrics = _train(experiment, run, main=rank == 0)
    except Interrupted as stopped:
        if rank == 0:
            run.set_status("interrupted", str(stopped))
            print(f"{stopped}; saved {run.last}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        if rank == 0:
            run.set_status("interrupted", "stopped before the first step or after the last")
        return 130
    except BaseException as error:
        if rank == 0:
            run.set_status("failed", f"{type(error).__name__}: {error}".splitlines()[0])
        if isinstance(error, UserError):
            if rank == 0:
                print(f"mmtx: {error}", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1
    if rank == 0:
        run.write_json(run.metrics, finite(metrics))
        run.set_status("finished")
    return 0


def _train(experiment: Experiment, run: RunDirectory, main: bool) -> dict[str, float]:
    import lightning.pytorch as pl

    from mmtx.run.wandb_log import WandbLog
    from mmtx.training.module import MultimodalModule

    quieten()
    config, plugins = experiment.config, experiment.config["plugins"]
    if config.get("init_from"):
        report = initialise_from(experiment.learner, config["init_from"], plugins)
        if main:
            print(report, flush=True)
    pl.seed_everything(config["seed"], workers=False, verbose=False)
    loggers: list[Any] = [MetricsLog(run.metrics_log)] if main else []
    runtime = {"run_dir": run.path, "config": config, "run_name": run.path.name}
    loggers += [construct(node, plugins)(**runtime) for node in config["logger"].values()] if main else []
    interrupt = Interrupt()
    callbacks = [construct(node, plugins) for node in config["callbacks"].values()]
    callbacks += [construct(config["checkpoint"], plugins)(run=run, contents=contents(experiment)), interrupt]
    total_steps, accumulate = experiment.total_steps, experiment.training.accumulate_grad_batches
    module = MultimodalModule(
        learner=experiment.learner,
        optimisation=experiment.optimisation,
        data=experiment.data,
        total_steps=total_steps,
        accumulate=accumulate,
        log_every_steps=config["log_every_steps"],
        seed=config["seed"],
    )
    per_step = experiment.data.batch_size * accumulate * experiment.training.num_ranks
    trainer = experiment.training.trainer(
        total_steps=total_steps,
        epoch_steps=max(1, experiment.data.num_train // per_step),
        run_dir=run.path,
        loggers=loggers,
        callbacks=callbacks,
    )
    wandb_logs = [logger for logger in loggers if isinstance(logger, WandbLog)]
    for log in wandb_logs:
        log.start()
    exit_code = 1
    try:
        trainer.fit(module)
        if trainer.global_step % min(trainer.val_check_batch or 1, total_steps):
            trainer.validate(module, verbose=False)
        if experiment.data.source.test() is not None:
            trainer.test(module, verbose=False)
        else:
            module.test_by_acting()
        exit_code = 0
    finally:
        interrupt.restore()
        for log in wandb_logs:
            log.finish(exit_code)
    return module.metrics


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
    run = RunDirectory(Path(sys.argv[1]))
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    return execute(assemble(config), run)


if __name__ == "__main__":
    raise SystemExit(main())
