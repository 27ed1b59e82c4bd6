"""What a sweep does when a job fails."""

from typing import Literal

from mmtx.errors import InvalidValue, check_at_least


class FailurePolicy:
    """When a failed job is retried, and when no more jobs are started.

    Args:
        on_failure: ``continue`` with the others; ``stop``: start no more; ``retry`` the job.
        max_attempts: of a job, with ``retry``.
        max_failures: failed jobs after which no more are started; None: no limit.
        job_timeout: seconds after which a job counts as hanging; None: no limit.
    """

    def __init__(
        self,
        *,
        on_failure: Literal["continue", "stop", "retry"],
        max_attempts: int,
        max_failures: int | None,
        job_timeout: float | None,
    ) -> None:
        check_at_least("max_attempts", max_attempts, 1)
        check_at_least("max_failures", max_failures, 1)
        if job_timeout is not None and job_timeout <= 0:
            raise InvalidValue("job_timeout", job_timeout, "must be more than 0")
        self.job_timeout = job_timeout
        self._attempts = max_attempts if on_failure == "retry" else 1
        self._failures = 1 if on_failure == "stop" else max_failures

    def retries(self, attempts: int) -> bool:
        """Whether a failed job is started again after so many attempts."""
        return attempts < self._attempts

    def may_start(self, failures: int) -> bool:
        """Whether more jobs are started after so many have failed."""
        return self._failures is None or failures < self._failures
