"""The queue of the jobs of a sweep."""

from collections.abc import Sequence

from mmtx.sweep.record import Job


class JobQueue:
    """The jobs of a list that are not done, the most expensive first. A search adds others.

    Args:
        jobs: of the sweep.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = sorted((job for job in jobs if not job.is_done), key=lambda job: -job.cost)
        for job in self._waiting:
            job.state, job.reason = "waiting", None

    def next(self) -> Job | None:
        """The next job to start; None if there is none."""
        return self._waiting.pop(0) if self._waiting else None

    def requeue(self, job: Job) -> None:
        """Adds a failed job that is retried."""
        job.state = "waiting"
        self._waiting.append(job)

    def to_prune(self, running: Sequence[Job]) -> list[tuple[Job, str]]:
        """The running jobs that are to be stopped early, and why."""
        return []

    def ended(self, job: Job) -> None:
        """Called when a job has ended and is not retried; may change its state to failed."""
