"""One job of a sweep, or one rank of a run, from its frozen config: ``python -m mmtx.run.worker RUN_DIR``."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

from mmtx.process import parent_watch, stopping
from mmtx.process.launch import launch
from mmtx.process.streams import outlast_readers

if TYPE_CHECKING:
    from mmtx.run.directory import RunDirectory

RELEASE_SECONDS = 1.0
"""How long the kernel may take to release the lock of a process that has died."""


def main() -> int:
    outlast_readers()
    here = launch()
    is_rank = here.by is not None
    parent_watch.watch_parent(_take_over if is_rank and here.is_main else lambda: None)
    return _rank() if is_rank else _job()


def _take_over() -> None:
    """Rank 0 holds the run in the place of its parent, which has died, while the ranks save.

    Raises:
        UserError: another process was quicker, and goes on from what was saved before.
    """
    from mmtx.errors import UserError
    from mmtx.run.directory import RunDirectory

    deadline = time.monotonic() + RELEASE_SECONDS
    while True:
        try:
            _held.enter_context(RunDirectory(sys.argv[1]).lock())
            return
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


_held = contextlib.ExitStack()  # until this process ends


def _rank() -> int:
    """Until there is something to save, a signal ends it wherever it waits for other ranks; its parent records that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with stopping.handling_signals(from_the_start=False):
        from mmtx.run import job  # brings torch with it: seconds in which the parent may die

        return job.main()


def _job() -> int:
    try:
        with stopping.handling_signals():
            from mmtx.run.directory import RunDirectory

            run = RunDirectory(sys.argv[1])
            with run.lock(wait=True):
                pass  # an earlier process of the run, such as one whose launcher was killed, has saved by now
            return _continue_or_begin(run)
    except stopping.Interrupted as stop:  # before it has begun: whoever started it records that
        print(f"mmtx: {stop}", file=sys.stderr)
        return stop.exit_code


def _continue_or_begin(run: RunDirectory) -> int:
    from mmtx.errors import UserError
    from mmtx.run.resume import resume

    try:
        return _begin(run) if run.state() is None else resume(run.path)
    except UserError as error:
        run.set_status("failed", " ".join(str(error).split()))
        print(f"mmtx: {error}", file=sys.stderr)
        return 2


def _begin(run: RunDirectory) -> int:
    from mmtx.config.stored import read_config
    from mmtx.experiment import assemble
    from mmtx.run.fitted_source import fitted_state_for
    from mmtx.run.job import begin

    config = read_config(run.config)
    experiment = assemble(config, fitted_state_for(config))
    sys.argv[1:] = ["train", "--config", str(run.config)]  # what repeats it, for environment.json
    return begin(experiment, run)


if __name__ == "__main__":
    raise SystemExit(main())
