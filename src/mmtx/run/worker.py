"""One job of a sweep, or one rank of a run, from its frozen config: ``python -m mmtx.run.worker RUN_DIR``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmtx.run import lifeline

if TYPE_CHECKING:
    from mmtx.run.directory import RunDirectory


def command(run_dir: Path) -> list[str]:
    """What starts a job, on this machine or another."""
    return [sys.executable, "-m", "mmtx.run.worker", str(run_dir)]


def main() -> int:
    lifeline.hold()
    from mmtx.run import job  # brings torch with it: seconds in which the parent may die
    from mmtx.run.directory import RunDirectory

    if "RANK" in os.environ:
        return job.main()
    run = RunDirectory(sys.argv[1])
    with _alone(run):
        return _continue_or_begin(run)


def _continue_or_begin(run: RunDirectory) -> int:
    from mmtx.run.job import begin

    if run.state() == "finished":  # by the process that was waited for
        return 0
    # A job with a checkpoint is half done. Until a run can be continued, it starts afresh: this is the place for
    #   if run.last.is_file(): return resume(run.path)
    return begin(run)


@contextlib.contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    """Waits for an earlier process of the same run, such as one whose launcher was killed and which is still saving."""
    with (run.path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that works on {run.path}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    raise SystemExit(main())
