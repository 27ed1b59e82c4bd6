"""The progress of a sweep: one table in a terminal, plain lines elsewhere."""

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

from mmtx.sweep.progress import Progress, read_progress
from mmtx.sweep.record import Job, Sweep, summary

HEADER = ("job", "device", "step", "metric", "steps/s", "left")


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
    """A line for every event."""

    seconds = 0.25

    def message(self, text: str) -> None:
        print(text, flush=True)

    def show(self, sweep: Sweep, running: Sequence[Job]) -> None:
        """Nothing new."""

    def close(self) -> None:
        """Nothing open."""


class Table(View):
    """The running jobs in rows, redrawn in place; jobs that do not finish stay above them.

    Args:
        metric: shown for each job, such as ``val/loss``.
    """

    seconds = 0.5

    def __init__(self, *, metric: str | None) -> None:
        self._metric, self._height = metric, 0

    def message(self, text: str) -> None:
        self._write([text], keeps=True)

    def started(self, job: Job) -> None:
        """Shown by the table."""

    def ended(self, job: Job) -> None:
        if job.state != "finished":
            super().ended(job)

    def show(self, sweep: Sweep, running: Sequence[Job]) -> None:
        rows = [HEADER, *(self._row(sweep, job) for job in running)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
        most = max(1, shutil.get_terminal_size().lines - 3)
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        hidden = [f"... and {len(lines) - most} more"] if len(lines) > most else []
        self._write([*lines[:most], *hidden, summary(sweep.jobs)], keeps=False)

    def close(self) -> None:
        self._write([], keeps=True)

    def _row(self, sweep: Sweep, job: Job) -> tuple[str, ...]:
        progress = read_progress(sweep.path / job.name, self._metric)
        return (" ".join(job.overrides) or job.name, job.device or "", *cells(progress, job.steps))

    def _write(self, lines: list[str], keeps: bool) -> None:
        """Overwrites the last table."""
        up = f"\x1b[{self._height}A" if self._height else ""
        width = shutil.get_terminal_size().columns
        text = "".join(f"{line if keeps else line[:width]}\n" for line in lines)
        sys.stdout.write(f"{up}\r\x1b[J{text}")
        sys.stdout.flush()
        self._height = 0 if keeps else len(lines)


def view_for(metric: str | None) -> View:
    return Table(metric=metric) if sys.stdout.isatty() else Lines()


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
