"""A process that ends when the one that started it does, however that ended.

The parent holds the writing end of a pipe and never writes. When it is gone, `kill -9` included, the child reads the
end of the file. Imports nothing heavy: the watch begins before torch is there.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

VARIABLE = "MMTX_PARENT_PIPE"
"""``FILE_DESCRIPTOR:GRACE_SECONDS`` in the child's environment."""


def watch_parent(first: Callable[[], None] = lambda: None) -> None:
    """Watches the process that started this one, if it left a pipe. When it dies, this process is requested to save and
    end (SIGTERM), and after the grace its whole process group is killed.

    Args:
        first: called when it dies; where it raises, the group is killed at once.
    """
    given = os.environ.pop(VARIABLE, None)  # not for the processes that this one starts
    if given is not None:
        file, _, grace = given.partition(":")
        threading.Thread(target=_watch, args=(int(file), float(grace), first), daemon=True, name="parent").start()


def _watch(file: int, grace_s: float, first: Callable[[], None]) -> None:
    os.read(file, 1)
    try:
        first()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
    finally:
        os.killpg(os.getpgrp(), signal.SIGKILL)
