"""One process at a time in a directory, by a lock which the kernel lets go of however the process ends."""

import sys
from functools import cache
from typing import IO, Any

from mmtx.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


def lock(file: IO[Any], *, wait: bool = False) -> None:
    """Locks an open file until it is closed. Where the file system has no locks, as some of clusters have none, one
    line is printed, and nothing is locked.

    Args:
        file: of the directory.
        wait: for the process that has it.

    Raises:
        BlockingIOError: another process has it.
        UserError: the system has no such locks.
    """
    if fcntl is None:
        raise UserError(f"{file.name} cannot be locked on {sys.platform}: train on Linux or macOS; on Windows, in WSL")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        _warn(f"{file.name} cannot be locked ({error.strerror}): see to it that no other process works there")


@cache
def _warn(line: str) -> None:
    print(f"mmtx: warning: {line}", file=sys.stderr, flush=True)
