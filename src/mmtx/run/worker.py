"""One job of a sweep, or one rank of a run, from its frozen config: ``python -m mmtx.run.worker RUN_DIR``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmtx.launch import launch
from mmtx.run import lifeline
from mmtx.streams import outlast_readers

if TYPE_CHECKING:
    from mmtx.run.directory import RunDirectory


def command(run_dir: Path, checkpoint: Path | None = None) -> list[str]:
    """What starts a job, on this machine or another; or a rank, with the checkpoint that it goes on from."""
    alone = "-P"  # a user's random.py in the working directory is not taken for Python's own
    return [sys.executable, alone, "-m", "mmtx.run.worker", str(run_dir), *([str(checkpoint)] if checkpoint else [])]


def main() -> int:
    lifeline.hold()
    outlast_readers()
    is_rank = launch().by is not None
    if is_rank:  # until there is something to save, Ctrl-C ends it wherever it waits for other ranks
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from mmtx.run import job  # brings torch with it: seconds in which the parent may die
    from mmtx.run.directory import RunDirectory

    if is_rank:
        return job.main()
    run = RunDirectory(sys.argv[1])
    with run.lock(wait=True):
        pass  # an earlier process of the run, such as one whose launcher was killed, has saved by now
    return _continue_or_begin(run)


def _continue_or_begin(run: RunDirectory) -> int:
    from mmtx.errors import UserError
    from mmtx.run.job import begin
    from mmtx.run.resume import resume

    try:
        return begin(run) if run.state() is None else resume(run.path)
    except UserError as error:
        run.set_status("failed", " ".join(str(error).split()))
        print(f"mmtx: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
