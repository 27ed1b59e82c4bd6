"""The interface to what runs the jobs of a sweep: slots of this machine, or a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demand:
    """What the jobs of a sweep need.

    Attributes:
        num_jobs: that are to be run.
        devices_per_job: ranks of the largest job.
        on_cpu: whether all have ``trainer.accelerator=cpu``.
        folder: of the sweep.
    """

    num_jobs: int
    devices_per_job: int
    on_cpu: bool
    folder: Path


class Engine(ABC):
    """Starts commands, and reports when they end."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether another job can start now."""

    @abstractmethod
    def start(self, name: str, command: Sequence[str], log: Path) -> str:
        """Starts a job whose output is appended to `log`. Returns its device, for display."""

    @abstractmethod
    def wait(self, seconds: float) -> list[tuple[str, int]]:
        """Names and exit codes (negative: the signal) of jobs that have ended; waits for the first, or for `wake`."""

    @abstractmethod
    def wake(self) -> None:
        """Ends a `wait` early; may be called by a signal handler."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Signals a job to save and end."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """Kills a job."""
