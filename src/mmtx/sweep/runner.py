"""Runs a sweep: starts jobs on free slots, records how each ends."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmtx.process.stopping import Obey, handling_signals, obeyed, passed_on
from mmtx.run.directory import RunDirectory
from mmtx.sweep.engine import Engine
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.job_queue import JobQueue
from mmtx.sweep.outcome import memory_kills, outcome
from mmtx.sweep.record import Job, Sweep, now
from mmtx.sweep.view import View

SAVE_SECONDS = 60.0
"""Time that jobs have to save when the sweep is interrupted, or they are pruned."""

HANGING_SECONDS = 10.0
"""Time that a job which hangs has to end after SIGTERM."""


class SweepRunner:
    """Runs the jobs of a sweep that are not done.

    At a request to stop, every job saves and ends; a second one kills them.

    Args:
        sweep: the record, which is kept up to date.
        queue: of its jobs.
        engine: runs the jobs.
        policy: for failures.
        command: of the job in a directory.
        view: shows progress.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        queue: JobQueue,
        engine: Engine,
        policy: FailurePolicy,
        command: Callable[[Path], Sequence[str]],
        view: View,
    ) -> None:
        self._sweep, self._queue, self._engine, self._policy = sweep, queue, engine, policy
        self._command, self._view = command, view
        self._running: dict[str, Job] = {}
        self._attempts: dict[str, int] = {}
        self._kills: dict[str, int] = {}
        self._hanging: dict[str, float] = {}  # when they were signalled to end
        self._deadlines: dict[str, float] = {}
        self._failures = 0
        self._signals: list[int] = []
        self._changed = False

    def run(self) -> int:
        """Gives the exit code: 0, 1 if any job has failed, 128 + the signal if the sweep was interrupted."""
        with handling_signals(), obeyed(Obey.LATER), passed_on(self._note):
            try:
                self._set_state("running")
                self._run_jobs()
                self._view.close()
            except BaseException:  # jobs that still run save and end with their launcher
                self._set_state("failed")
                raise
            done = all(job.is_done for job in self._sweep.jobs)
            self._set_state("interrupted" if self._signals else "finished" if done else "failed")
        if self._signals:
            return 128 + self._signals[0]
        return 0 if done else 1

    def _run_jobs(self) -> None:
        handled = 0
        while True:
            while self._may_start and self._engine.has_room() and (job := self._queue.next()):
                self._start(job)
            if self._changed:
                self._write()
            if not self._running:
                break
            for name, code in self._engine.wait(self._view.seconds):
                self._end(self._running.pop(name), code)
            if len(self._signals) > handled:
                handled = len(self._signals)
                self._stop_all(at_once=handled > 1)
            self._end_hanging_jobs()
            for job, reason in self._queue.to_prune([j for j in self._running.values() if j.state == "running"]):
                self._prune(job, reason)
            self._view.show(self._sweep, list(self._running.values()))

    @property
    def _may_start(self) -> bool:
        return not self._signals and self._policy.may_start(self._failures)

    def _start(self, job: Job) -> None:
        folder = self._sweep.path / job.name
        job.device = self._engine.start(job.name, self._command(folder), folder / "log.txt")
        job.state, job.reason, job.started, job.ended = "running", None, now(), None
        job.attempts += 1
        self._attempts[job.name] = self._attempts.get(job.name, 0) + 1
        self._kills[job.name] = memory_kills()
        if self._policy.job_timeout is not None:
            self._deadlines[job.name] = time.monotonic() + self._policy.job_timeout
        self._running[job.name], self._changed = job, True
        self._view.started(job)

    def _end(self, job: Job, code: int) -> None:
        folder = self._sweep.path / job.name
        pruned = job.reason if job.state == "pruned" else None
        job.state, job.reason = outcome(folder, code, memory_kills() - self._kills[job.name])
        if job.state != "finished" and pruned is not None:
            job.state, job.reason = "pruned", pruned
        elif job.state != "finished" and job.name in self._hanging:
            job.state, job.reason = "failed", f"no end after job_timeout={self._policy.job_timeout:g} s"
        elif job.state == "failed" and self._signals:
            job.state = "interrupted"  # it did not save in time
        job.ended = now()
        self._hanging.pop(job.name, None)
        self._deadlines.pop(job.name, None)
        run = RunDirectory(folder)
        if job.state != "finished" and run.state() != job.state:
            run.set_status(job.state, job.reason)  # a process that was killed could not write it
        retry = job.state == "failed" and self._policy.retries(self._attempts[job.name])
        if not retry:
            self._queue.ended(job)
        self._view.ended(job)
        if retry:
            self._queue.requeue(job)
        elif job.state == "failed":
            self._failures += 1
        self._changed = True

    def _prune(self, job: Job, reason: str) -> None:
        job.state, job.reason = "pruned", reason
        self._write()  # before the signal: the job reads the reason there
        self._engine.stop(job.name)
        self._hanging[job.name] = moment = time.monotonic()
        self._deadlines[job.name] = moment + SAVE_SECONDS

    def _stop_all(self, at_once: bool) -> None:
        self._view.message("killing all jobs" if at_once else "stopping: jobs save and end; once more to kill them")
        for name in self._running:
            if at_once:
                self._engine.kill(name)
            else:
                self._engine.stop(name)
                self._deadlines[name] = time.monotonic() + SAVE_SECONDS

    def _end_hanging_jobs(self) -> None:
        moment = time.monotonic()
        for name in self._running:
            if self._deadlines.get(name, moment) >= moment:
                continue
            if self._signals or name in self._hanging:
                self._engine.kill(name)
            else:
                self._engine.stop(name)
                self._hanging[name] = moment
                self._deadlines[name] = moment + HANGING_SECONDS

    def _set_state(self, state: str) -> None:
        self._sweep.state = state
        self._write()

    def _write(self) -> None:
        self._sweep.write()
        self._changed = False

    def _note(self, number: int) -> None:
        self._signals.append(number)
        self._engine.wake()
