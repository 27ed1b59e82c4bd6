"""The progress of a sweep: one table in a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from mmtx.sweep.progress import Progress, read_progress
from mmtx.sweep.record import Job, Sweep, summary

HEADER = ("job", "state", "device", "step", "metric", "steps/s", "left")
SHORTEST_LABEL = 12
SECONDS_BETWEEN_LINES = 30.0


class View(ABC):
    """Shows the events of a sweep.

    Attributes:
        seconds: between two calls of `show`.
    """

    seconds: float

    @abstractmethod
    def message(self, text: str) -> None: ...

    @abstractmethod
    def show(self, sweep: Sweep, running: Sequence[Job]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def started(self, job: Job) -> None:
        again = f", attempt {job.attempts}" if job.attempts > 1 else ""
        self.message(f"started  {job.name}  on {job.device}{again}")

    def ended(self, job: Job) -> None:
        self.message(f"{job.state:<8} {job.name}" + (f"  {job.reason}" if job.reason else ""))


class Lines(View):
    """A line for every event, and now and then one for each running job.

    Args:
        metric: shown for each job, such as ``val/loss``.
    """

    seconds = 0.25

    def __init__(self, *, metric: str | None) -> None:
        self._metric, self._shown = metric, time.monotonic()

    def message(self, text: str) -> None:
        print(text, flush=True)

    def show(self, sweep: Sweep, running: Sequence[Job]) -> None:
        if time.monotonic() - self._shown < SECONDS_BETWEEN_LINES:
            return
        self._shown = time.monotonic()
        for job in running:
            step, metric, _, left = cells(read_progress(sweep.path / job.name, self._metric), job.steps)
            parts = [step, f"{self._metric} {metric}" if metric else "", f"{left} left" if left else ""]
            self.message(f"{job.state:<8} {job.name}  " + "  ".join(filter(None, parts)))
        self.message(summary(sweep.jobs))

    def close(self) -> None:
        """Nothing open."""


class Table(View):
    """All jobs in rows, those that run first, redrawn in place; jobs that do not finish stay above them.

    Args:
        metric: shown for each job, such as ``val/loss``.
    """

    seconds = 0.5

    def __init__(self, *, metric: str | None) -> None:
        self._metric, self._height = metric, 0
        self._ended: dict[str, tuple[str, ...]] = {}

    def message(self, text: str) -> None:
        self._write([text], keeps=True)

    def started(self, job: Job) -> None:
        """Shown by the table."""

    def ended(self, job: Job) -> None:
        if job.state != "finished":
            super().ended(job)

    def show(self, sweep: Sweep, running: Sequence[Job]) -> None:
        size = shutil.get_terminal_size()
        names = {job.name for job in running}
        jobs = [*running, *(job for job in sweep.jobs if job.name not in names)]
        most = max(1, size.lines - 4)
        rows = [tuple(self._metric or cell if cell == "metric" else cell for cell in HEADER)]
        rows += [self._row(sweep, job) for job in jobs[:most]]
        hidden = [f"... and {len(jobs) - most} more"] if len(jobs) > most else []
        self._write([*_fitted(rows, size.columns), *hidden, summary(sweep.jobs)], keeps=False)

    def close(self) -> None:
        self._write([], keeps=True)

    def _row(self, sweep: Sweep, job: Job) -> tuple[str, ...]:
        """Of a job that has ended, what it was then: its log is not read again."""
        label = " ".join(job.overrides) or job.name
        if job.state == "running":
            self._ended.pop(job.name, None)
            return (label, job.state, job.device or "", *cells(self._progress(sweep, job), job.steps))
        if job.state == "waiting":
            return (label, job.state, *[""] * 5)
        if job.name not in self._ended:
            self._ended[job.name] = cells(self._progress(sweep, job), job.steps)[:2]
        return (label, job.state, job.device or "", *self._ended[job.name], "", "")

    def _progress(self, sweep: Sweep, job: Job) -> Progress:
        return read_progress(sweep.path / job.name, self._metric)

    def _write(self, lines: list[str], keeps: bool) -> None:
        """Overwrites the last table."""
        up = f"\x1b[{self._height}A" if self._height else ""
        width = shutil.get_terminal_size().columns
        text = "".join(f"{line if keeps else line[:width]}\n" for line in lines)
        sys.stdout.write(f"{up}\r\x1b[J{text}")
        sys.stdout.flush()
        self._height = 0 if keeps else len(lines)


def view_for(metric: str | None) -> View:
    return Table(metric=metric) if sys.stdout.isatty() else Lines(metric=metric)


def _fitted(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Lines of a table, in which the first column gives way where they are too long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    beyond = sum(widths) + 2 * (len(widths) - 1) - width
    widths[0] = max(min(widths[0], SHORTEST_LABEL), widths[0] - max(beyond, 0))
    rows = [(row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 1]}…", *row[1:]) for row in rows]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def cells(progress: Progress, total: int | None) -> tuple[str, str, str, str]:
    """Step, metric, speed and time left; empty where unknown."""
    metric = "" if progress.metric is None else f"{progress.metric:.4g}"
    if progress.step is None:
        return "starting", metric, "", ""
    step = f"{progress.step}/{total}" if total else str(progress.step)
    if not progress.steps_per_second:
        return step, metric, "", ""
    left = duration((total - progress.step) / progress.steps_per_second) if total else ""
    return step, metric, f"{progress.steps_per_second:.3g}", left


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` under an hour."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
