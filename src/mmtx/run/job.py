"""One run in its directory: begun, executed here or on several ranks, and its end recorded."""

import contextlib
import shlex
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

from mmtx.config.redaction import redacted
from mmtx.config.schema import Config
from mmtx.config.stored import read_config
from mmtx.data.worker import end_workers
from mmtx.errors import ProcessDied, UserError
from mmtx.experiment import Experiment, assemble
from mmtx.nn.roles import counts_by_role
from mmtx.process.kept_memory import keep_freed_memory
from mmtx.process.launch import launch
from mmtx.process.progress import show_progress
from mmtx.process.stopping import Interrupted, Obey, obeyed, recorded
from mmtx.run.begun_with import record_files
from mmtx.run.checkpoint_content import Checkpoint
from mmtx.run.directory import RunDirectory
from mmtx.run.failure import explained
from mmtx.run.fit import fit
from mmtx.run.fitted_source import fitted_state_for
from mmtx.run.interrupt import requeue
from mmtx.run.metrics_log import finite
from mmtx.run.named_plugins import remember_plugins
from mmtx.run.ranks import INTERRUPTED, NOT_BEGUN, run_ranks


def prepare(config: Config, run: RunDirectory) -> None:
    """Makes the run directory and writes what is known before the first step."""
    from mmtx.run.provenance import describe

    run.create()
    kept = {**config, "run_dir": None}  # a repeated run gets a directory of its own
    run.write_config(kept)
    remember_plugins(run, config["plugins"])
    record_files(config, run)
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


def start(experiment: Experiment, run: RunDirectory, checkpoint: Checkpoint | None = None) -> int:
    """Runs here, or in as many processes as there are devices; from a checkpoint if there is one. Gives the exit
    code. However it ends, unless it is killed, the status records it."""
    here = launch()
    if not here.is_main:
        show_progress(False)
        return execute(experiment, run, checkpoint)
    with run.lock(), obeyed(Obey.LATER):
        run.set_status("running")
        run.write_json(run.directions, dict(experiment.directions))
        run.note("num_parameters", counts_by_role(experiment.learner))
        if experiment.training.num_devices == 1 or here.by is not None:
            return execute(experiment, run, checkpoint)
        try:
            return _execute_on_ranks(experiment.training.num_devices, run, checkpoint)
        except BaseException as error:
            return _ended(error, run)


def _execute_on_ranks(num_ranks: int, run: RunDirectory, checkpoint: Checkpoint | None) -> int:
    code, reason = run_ranks(run.path, num_ranks, checkpoint.path if checkpoint is not None else None)
    if run.state() == "finished":  # whatever came as a rank left
        return 0
    is_cause_known = code < 0 or reason == NOT_BEGUN
    if is_cause_known:
        hint = " (as the kernel does where memory runs out)" if code == -signal.SIGKILL else ""
        print(f"mmtx: {reason}{hint}; the other ranks were ended", file=sys.stderr)
    if is_cause_known or (code and run.state() == "running"):  # what the other ranks then report is not the cause
        run.set_status("interrupted" if code in INTERRUPTED else "failed", reason)
    return code if code >= 0 else 1


def execute(experiment: Experiment, run: RunDirectory, checkpoint: Checkpoint | None = None) -> int:
    """Trains, tests and writes the final metrics; records how it ended. Gives the exit code."""
    if experiment.training.device_type == "cpu":
        keep_freed_memory()
    with obeyed(Obey.LATER), recorded(partial(_ended_at_once, run)):
        try:
            with obeyed(Obey.AT_ONCE):  # until there is something to save, see `Interrupt`
                metrics = fit(experiment, run, checkpoint.content if checkpoint is not None else None)
            if launch().is_main:
                run.write_json(run.metrics, finite(metrics))
                run.note("num_samples", experiment.data.num_samples())
                run.set_status("finished")
            return 0
        except RuntimeError as error:
            return _ended(explained(error, experiment), run)
        except BaseException as error:
            return _ended(error, run)
        finally:
            end_workers()


def _ended(error: BaseException, run: RunDirectory) -> int:
    """Reports why a run ends, in one line where there is nothing to debug. Gives the exit code."""
    code, state, reason = 1, "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    here = launch()
    if isinstance(error, Interrupted):
        code, state, reason = error.exit_code, "interrupted", str(error)
        if error.number == signal.SIGUSR1 and here.is_main:
            requeue()
    elif isinstance(error, UserError):
        code = 2
    elif not isinstance(error, ProcessDied):
        traceback.print_exc()
    if not here.is_main and code == 1 and not isinstance(error, ProcessDied) and run.state() == "running":
        run.set_status(state, f"rank {here.rank}: {reason}")  # the others then fail for want of it
    if here.is_main:
        with contextlib.suppress(OSError):  # the reason may be that the directory is gone
            if run.state() != "failed":
                run.set_status(state, reason)
        again = f"mmtx resume {shlex.quote(str(run.path))}"
        kept = f"; step {run.checkpointed} is saved: {again}" if run.checkpointed is not None else ""
        message = redacted(str(error) if isinstance(error, UserError | ProcessDied) else reason)
        print(f"mmtx: {message}{kept}", file=sys.stderr)
    return code


def _ended_at_once(run: RunDirectory, number: int) -> None:
    """Records the end of a process that ends without saving."""
    if launch().is_main and run.state() == "running":
        run.set_status("interrupted", f"ended at once by {signal.Signals(number).name}")


def main() -> int:
    """One rank of a run: its directory, and the checkpoint to go on from if there is one."""
    show_progress(launch().is_main)
    run = RunDirectory(Path(sys.argv[1]))
    config, checkpoint = read_config(run.config), Checkpoint.read(Path(sys.argv[2])) if len(sys.argv) > 2 else None
    return execute(assemble(config, fitted_state_for(config, checkpoint)), run, checkpoint)
