"""The loggers of a run: its own log of metrics, W&B, a user's, and Lightning's own classes as they are."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from mmtx.config.construct import construct
from mmtx.config.redaction import redacted
from mmtx.config.schema import Config
from mmtx.config.targets import parameters
from mmtx.process.launch import launch
from mmtx.run.directory import RunDirectory
from mmtx.run.metrics_log import MetricsLog
from mmtx.run.wandb.log import WandbLog
from mmtx.training.published_row import leave_out


def loggers_of(config: Config, run: RunDirectory, log_lines: int) -> list[Logger]:
    """The log of metrics, and those that the config chooses, not yet opened.

    One that waits for more arguments (``_partial_``) gets those of these that it takes and that are left open:
    `run_dir`, `config`, and as Lightning's classes call them, `save_dir` and `run_name`.

    Args:
        config: of the run.
        run: where to.
        log_lines: of the log that a run which continues keeps.
    """
    if not launch().is_main:
        return [DummyLogger()]  # Lightning's callbacks ask for one on every rank
    log = MetricsLog(run.metrics_log, log_lines)
    name = f"{config['name']} {run.path.name}"
    given = {"run_dir": run.path, "config": redacted(config), "save_dir": str(run.path), "run_name": name}
    return [log, *(_filled(construct(node, config["plugins"]), given) for node in config["logger"].values())]


def _filled(made: Any, given: dict[str, Any]) -> Any:
    if isinstance(made, Logger):
        return made
    open_keys = {key for key in parameters(made.func) if made.keywords.get(key) is None}
    return made(**{key: value for key, value in given.items() if key in open_keys})


@contextmanager
def opened(trainer: pl.Trainer, config: Config, explained: Callable[[RuntimeError], BaseException]) -> Iterator[None]:
    """Opens the loggers, and at the end shows in each how the run ended.

    A run that continues has a record of its own in each of Lightning's, complete from the first step on.

    Args:
        trainer: whose loggers they are.
        config: of the run.
        explained: what an error of torch's means for a user.
    """
    for logger in list(trainer.loggers):
        _open(trainer, logger, config)
    ended: BaseException | None = None
    try:
        yield
    except RuntimeError as error:
        ended = explained(error)
        raise ended from error
    except BaseException as error:
        ended = error
        raise
    finally:
        for logger in reversed(trainer.loggers):  # the log of metrics last
            _close(trainer, logger, ended)


def _open(trainer: pl.Trainer, logger: Any, config: Config) -> None:
    if isinstance(logger, WandbLog):
        logger.start()
    elif not isinstance(logger, MetricsLog):
        with _going_on(trainer, logger):
            logger.log_hyperparams(redacted(config))
            for step, row in _rows(trainer):
                logger.log_metrics(row, step)


def _rows(trainer: pl.Trainer) -> Iterator[tuple[int, dict[str, Any]]]:
    """Steps and rows that a run which continues has logged before."""
    for log in (logger for logger in trainer.loggers if isinstance(logger, MetricsLog)):
        for line in log.path.read_bytes().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            del row["time"]
            yield step, {name: math.nan if value is None else value for name, value in row.items()}


def _close(trainer: pl.Trainer, logger: Any, ended: BaseException | None) -> None:
    if isinstance(logger, WandbLog):
        logger.finish(ended)
    elif isinstance(logger, MetricsLog):
        logger.close()
    else:
        with _going_on(trainer, logger):
            logger.finalize("success" if ended is None else "failed")


@contextmanager
def _going_on(trainer: pl.Trainer, logger: Logger) -> Iterator[None]:
    """Within, an error of a logger costs that logger only."""
    try:
        yield
    except Exception as error:  # of whatever kind its server or disk raises
        leave_out(trainer, logger, error)
