"""What runs the jobs of a sweep: the slots of this machine, or a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtx.process.launch import environment_of_none


@dataclass(frozen=True)
class Demand:
    """What the jobs of a sweep need.

    Attributes:
        num_jobs: how many are to be run.
        devices_per_job: ranks of the largest.
        on_cpu: all say so (``trainer.accelerator=cpu``).
        folder: of the sweep.
    """

    num_jobs: int
    devices_per_job: int
    on_cpu: bool
    folder: Path


class Engine(ABC):
    """Starts commands, and tells when they end."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether another job would start now."""

    @abstractmethod
    def start(self, name: str, command: Sequence[str], log: Path) -> str:
        """Starts a job whose output is appended to `log`. Gives the device in words."""

    @abstractmethod
    def wait(self, seconds: float) -> list[tuple[str, int]]:
        """Names and exit codes (negative: the signal) of jobs that have ended; waits for the first, or for `wake`."""

    @abstractmethod
    def wake(self) -> None:
        """Ends a `wait` early; may be called by a signal handler."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Asks a job to save and end."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """Ends a job at once."""


def job_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for a job: a job is never a rank of what its launcher runs in."""
    return environment_of_none() | dict(changes)
