"""What a process that serves another does about signals and about the death of the one it serves, what it leaves behind
when it dies itself, and how the two share memory."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import multiprocessing
import multiprocessing.util
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import get_worker_info

from mmtx.batch import Batch
from mmtx.errors import UserError
from mmtx.process.stopping import SIGNALS, show_progress

PR_SET_PDEATHSIG = 1  # linux/prctl.h

WHERE = "/dev/shm"
NO_MEMORY = (errno.ENOSPC, errno.ENOMEM, errno.EACCES, errno.EROFS, errno.ENOENT)

LONGEST = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes of a folder whose sockets have addresses that the kernel takes: 108 with the byte that ends them."""

ROWS = 4096  # many more than there are workers, so that two of them hardly ever share one


class Desk:
    """The sample that each worker is on, in memory that it shares with the process that started it.

    Where two workers share a row, since their process ids are a multiple of `ROWS` apart, the one that noted last is
    known, and never named for the other.
    """

    def __init__(self) -> None:
        with _shared_memory():
            self._rows = torch.full((ROWS, 2), -1, dtype=torch.long).share_memory_()

    def note(self, index: int) -> None:
        """This process begins the sample of an index; -1: it is idle."""
        self._rows[os.getpid() % ROWS] = torch.tensor((os.getpid(), index))

    def samples(self, told: str) -> list[int]:
        """Indices of the samples of the workers whose deaths torch tells; of all that live where it names none."""
        named = re.search(r"\(pid(?:\(s\))? ([0-9, ]+)\)", told)
        pids = {int(pid) for pid in named[1].split(",")} if named else {*_alive()}
        return sorted(int(index) for pid, index in self._rows.tolist() if pid in pids and index >= 0)


Made = TypeVar("Made")


def with_workers(start: Callable[[], Made]) -> Made:
    """Starts processes that prepare batches, with what they need to hand them over.

    Raises:
        UserError: there is no shared memory, or no folder for sockets.
    """
    _make_socket_folder()
    with _shared_memory():
        multiprocessing.Lock()  # in shared memory as well, of which a loader that fails half made complains
        return start()


def handed_over(batches: list[Batch]) -> list[Batch]:
    """Batches as a worker gives them away: in shared memory already. They would else be put there by a thread of which
    nobody learns that it fails. Raises UserError if there is no room."""
    if get_worker_info() is None:
        return batches
    with _shared_memory():
        return [batch.share_memory() for batch in batches]


@contextlib.contextmanager
def _shared_memory() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not (error.errno in NO_MEMORY if isinstance(error, OSError) else "shared memory" in str(error)):
            raise
        raise UserError(
            f"batches of workers go through shared memory, and there is none left ({error}): make {WHERE} larger (its "
            f"size is in `df {WHERE}`; `docker run --shm-size=8g`), lower loader.batch_size, or loader.num_workers=0"
        ) from None


def _make_socket_folder() -> None:
    """Makes the folder of the sockets by which workers hand batches over, once for all of them. TMPDIR may be gone, or
    have a path that is too long for the address of a socket."""
    before = tempfile.tempdir
    for place in _places():
        tempfile.tempdir = place
        try:
            folder = multiprocessing.util.get_temp_dir()  # remembered, and known to workers
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
        return
    raise UserError(
        f"loader.num_workers needs a folder for sockets, which can be written and has a path of at most {LONGEST} "
        f"bytes: set TMPDIR to one, or loader.num_workers=0"
    )


def _places() -> Iterator[str]:
    with contextlib.suppress(OSError):  # there is no folder for temporary files at all
        if len(os.fsencode(tempfile.gettempdir())) <= LONGEST:
            yield tempfile.gettempdir()
    yield from ("/tmp", "/var/tmp", WHERE)


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
