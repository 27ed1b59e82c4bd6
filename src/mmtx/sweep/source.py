"""Where the jobs of a sweep come from."""

from __future__ import annotations

from collections.abc import Sequence

from mmtx.sweep.record import Job


class Source:
    """The jobs of a list that are not done, those that take longest first. A search adds others as it learns.

    Args:
        jobs: of the sweep.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = sorted((job for job in jobs if not job.is_done), key=lambda job: -job.cost)
        for job in self._waiting:
            job.state, job.reason = "waiting", None

    def next(self) -> Job | None:
        """The job to start now; None: there is none."""
        return self._waiting.pop(0) if self._waiting else None

    def again(self, job: Job) -> None:
        """Takes back a job that is to be tried once more."""
        job.state = "waiting"
        self._waiting.append(job)

    def hopeless(self, running: Sequence[Job]) -> list[tuple[Job, str]]:
        """Those of the running jobs that are not worth going on with, and why."""
        return []

    def ended(self, job: Job) -> None:
        """Is told of every end that is not tried again; may find that the job has failed."""
