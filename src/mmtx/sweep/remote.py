"""A job on a machine of a cluster, with the same command, output and directory as here."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtx.process.child_processes import ChildProcesses
from mmtx.process.launch import environment_of_none

GRACE_SECONDS = 60.0
"""Time that a job has to save when the cluster takes its machine away."""


class RemoteJob:
    """A job that is pickled here and run there.

    Args:
        command: of the job.
        log: where its output is appended.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.command, self.log, self.directory = list(command), log, os.getcwd()
        self._children: ChildProcesses | None = None

    def run(self) -> int:
        """Runs the job in the working directory of the sweep, and returns its exit code."""
        os.chdir(self.directory)
        self._children = ChildProcesses(grace_s=GRACE_SECONDS)
        self._children.start("job", self.command, environment_of_none(), self.log)
        while not (ended := self._children.wait(None)):
            pass
        return ended[0][1]

    def __call__(self) -> int:
        """Called by submitit, which ignores SIGTERM."""
        signal.signal(signal.SIGTERM, lambda number, _: self.signal(number))
        return self.run()

    def signal(self, number: int) -> None:
        """Passes a signal on to the job, if it still runs."""
        if self._children is not None and self._children.names:
            self._children.signal("job", number)

    def checkpoint(self) -> Any:
        """Called by submitit before a time limit or a pre-emption: the job saves, and continues once it is requeued."""
        from submitit.helpers import DelayedSubmission

        assert self._children is not None
        self.signal(signal.SIGTERM)
        self._children.wait(GRACE_SECONDS)
        return DelayedSubmission(RemoteJob(self.command, self.log))
