"""Worker processes of a loader: their signals, their death and that of their parent, and the memory that they share."""

import contextlib
import ctypes
import errno
import math
import multiprocessing
import multiprocessing.util
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch.utils.data import get_worker_info

from mmtx.batch import Batch, Spec
from mmtx.errors import UserError
from mmtx.process.progress import show_progress
from mmtx.process.stopping import SIGNALS

PR_SET_PDEATHSIG = 1  # linux/prctl.h

SHM = "/dev/shm"
NO_MEMORY = (errno.ENOSPC, errno.ENOMEM, errno.EACCES, errno.EROFS, errno.ENOENT)

LONGEST_PATH = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes in the path of a folder of sockets: the kernel's limit of an address is 108, its final zero included."""

ROWS = 4096  # far more than workers, so that two of them hardly ever share one


class CurrentSamples:
    """The index of the sample that each worker is making, in memory shared with the process that started it.

    Of two workers that share a row, as their process ids differ by a multiple of `ROWS`, only the last to record is
    known; its sample is never attributed to the other.
    """

    def __init__(self) -> None:
        with _shared_memory():
            self._rows = torch.full((ROWS, 2), -1, dtype=torch.long).share_memory_()

    def record(self, index: int) -> None:
        """This process begins the sample of this index; -1: it is idle."""
        self._rows[os.getpid() % ROWS] = torch.tensor((os.getpid(), index))

    def samples(self, message: str) -> list[int]:
        """Indices of the samples of the workers whose death a message of torch reports, or of all that live."""
        named = re.search(r"\(pid(?:\(s\))? ([0-9, ]+)\)", message)
        pids = (
            {int(pid) for pid in named[1].split(",")}
            if named
            else {child.pid for child in multiprocessing.active_children()}
        )
        return sorted(int(index) for pid, index in self._rows.tolist() if pid in pids and index >= 0)


Loader = TypeVar("Loader")


def start_workers(start: Callable[[], Loader]) -> Loader:
    """Starts the workers of a loader, with the shared memory and the sockets by which they return batches.

    Raises:
        UserError: there is no shared memory, or no folder for sockets.
    """
    _make_socket_folder()
    with _shared_memory():
        multiprocessing.Lock()  # in shared memory as well: a loader that fails halfway prints an error
        return start()


SMALL = 2**20
"""Bytes up to which batches are sent through a pipe. What is in shared memory is received by a file descriptor of each
tensor, for which two processes exchange several messages: that takes longer."""


class SentByValue:
    """Batches of a worker that travel through a pipe.

    Args:
        batches: all of whose tensors numpy knows.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self._values = [_values(batch) for batch in batches]

    def received(self) -> list[Batch]:
        return [_batch(values) for values in self._values]

    def pin_memory(self) -> list[Batch]:
        return [batch.pin_memory() for batch in self.received()]


def _values(batch: Batch) -> dict[str, Any]:
    """A batch with arrays in the place of tensors."""
    fields = {name: {key: value.numpy() for key, value in of_name.items()} for name, of_name in batch.fields.items()}
    lengths = {name: value.numpy() for name, value in batch.lengths.items()}
    ids = None if batch.ids is None else batch.ids.numpy()
    kept = {"full": batch.full, "part": batch.part, "split": batch.split, "is_packed": batch.is_packed}
    return {"fields": fields, "lengths": lengths, "ids": ids, **kept}


def _batch(values: dict[str, Any]) -> Batch:
    """Undoes `_values`."""
    fields, lengths, ids = values["fields"], values["lengths"], values["ids"]
    batch = Batch(
        {name: {key: torch.from_numpy(v) for key, v in of_name.items()} for name, of_name in fields.items()},
        {name: torch.from_numpy(value) for name, value in lengths.items()},
        values["full"],
        None if ids is None else torch.from_numpy(ids),
        part=values["part"],
        split=values["split"],
    )
    return batch.packed() if values["is_packed"] else batch


def most_bytes(specs: Mapping[str, Spec], samples: int) -> int:
    """Of batches of so many samples, at most."""
    fields = [field for spec in specs.values() for field in spec.fields.values()]
    of_sample = sum(
        math.prod(size or field.max_length or 1 for size in field.shape) * field.dtype.itemsize for field in fields
    )
    return samples * (of_sample + 8 * (len(specs) + 1))  # lengths and ids


def sent(batches: list[Batch] | UserError) -> list[Batch] | SentByValue | UserError:
    """The batches of a worker as they are sent: large ones in shared memory, where a thread of torch would put them
    without reporting a failure; an error if there is no room for them."""
    if isinstance(batches, UserError) or get_worker_info() is None:
        return batches
    tensors = [tensor for batch in batches for tensor in batch.tensors]
    if sum(tensor.nbytes for tensor in tensors) <= SMALL and torch.bfloat16 not in {t.dtype for t in tensors}:
        return SentByValue(batches)
    try:
        with _shared_memory():
            return [batch.share_memory() for batch in batches]
    except UserError as error:
        return error


@contextlib.contextmanager
def _shared_memory() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not (error.errno in NO_MEMORY if isinstance(error, OSError) else "shared memory" in str(error)):
            raise
        raise UserError(
            f"batches of workers go through shared memory, and there is none left ({error}): make {SHM} larger (its "
            f"size is in `df {SHM}`; `docker run --shm-size=8g`), lower loader.batch_size, or loader.num_workers=0"
        ) from None


def _make_socket_folder() -> None:
    """Makes the folder of the sockets by which workers return batches, once for all. TMPDIR may be gone, or have a path
    that is too long for the address of a socket."""
    before = tempfile.tempdir
    for folder_of_all in _socket_folders():
        tempfile.tempdir = folder_of_all
        try:
            folder = multiprocessing.util.get_temp_dir()  # cached, and inherited by workers
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
        return
    raise UserError(
        f"loader.num_workers needs a folder for sockets, which can be written and has a path of at most {LONGEST_PATH} "
        f"bytes: set TMPDIR to one, or loader.num_workers=0"
    )


def _socket_folders() -> Iterator[str]:
    with contextlib.suppress(OSError):  # there is no folder for temporary files at all
        if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_PATH:
            yield tempfile.gettempdir()
    yield from ("/tmp", "/var/tmp", SHM)


def end_with_parent() -> None:
    """Has the kernel kill this process when its parent dies, for whatever reason, on Linux; elsewhere does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_workers() -> None:
    """Kills all workers, also those that hang."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises an error when a worker ends
    for worker in multiprocessing.active_children():
        worker.kill()


def in_worker(_: int) -> None:
    """Set-up of a worker, which ignores signals to the process group: the run saves, and then ends its workers."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    show_progress(False)
    end_with_parent()
