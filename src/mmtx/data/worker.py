"""What a process that serves another does about signals and about the death of the one it serves, and what it leaves
behind when it dies itself."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator

import torch

from mmtx.stopping import SIGNALS, show_progress

PR_SET_PDEATHSIG = 1  # linux/prctl.h

ROWS = 4096  # many more than there are workers, so that two of them hardly ever share one


class Desk:
    """The sample that each worker is on, in memory that it shares with the process that started it.

    Where two workers share a row, since their process ids are a multiple of `ROWS` apart, the one that noted last is
    known, and never named for the other.
    """

    def __init__(self) -> None:
        self._rows = torch.full((ROWS, 2), -1, dtype=torch.long).share_memory_()

    def note(self, index: int) -> None:
        """This process begins the sample of an index; -1: it is idle."""
        self._rows[os.getpid() % ROWS] = torch.tensor((os.getpid(), index))

    def samples(self, told: str) -> list[int]:
        """Indices of the samples of the workers whose deaths torch tells; of all that live where it names none."""
        named = re.search(r"\(pid(?:\(s\))? ([0-9, ]+)\)", told)
        pids = {int(pid) for pid in named[1].split(",")} if named else {*_alive()}
        return sorted(int(index) for pid, index in self._rows.tolist() if pid in pids and index >= 0)


def _alive() -> Iterator[int]:
    for child in multiprocessing.active_children():
        if child.pid is not None:
            yield child.pid


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
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    show_progress(False)
    end_with_parent(signal.SIGKILL)
