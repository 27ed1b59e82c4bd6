"""What a process that serves another does about signals, and about the death of the one it serves."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: int) -> None:
    """Has the kernel send a signal to this process when its parent dies, however it dies. Linux only; elsewhere nothing
    happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_workers() -> None:
    """Ends processes that prepare batches, also those that hang: nobody waits for them any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises an error when a worker ends
    for worker in multiprocessing.active_children():
        worker.kill()


def in_worker(_: int) -> None:
    """Set-up of a process that prepares batches: a signal to the whole group is for the run to answer, and the worker
    goes on until the run has saved and ends it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
