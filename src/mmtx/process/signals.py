"""Signals as they arrive, whatever the main thread is at.

Python runs its signal handlers in the main thread and not before the call under way has returned, such as a collective
that waits for another rank. What must not wait for that is done by a second thread, to which the interpreter writes
every signal as it arrives.
"""

import atexit
import gc
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import FrameType
from typing import Any

JOIN_SECONDS = 1.0


class SignalHandling(ABC):
    """The handling of some signals, from `open` to `close`. There can be one at a time, as signals are to the process.

    Args:
        numbers: the signals.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._pid, self._previous = 0, dict[int, Any]()

    @abstractmethod
    def handle(self, number: int) -> None:
        """Called in the main thread, once the call under way has returned; may raise."""

    @abstractmethod
    def arrived(self, number: int) -> None:
        """Called at once, in a thread of its own."""

    @property
    def is_open(self) -> bool:
        return self._pid == os.getpid()  # a fork inherits the handlers, and none of the threads

    def open(self) -> None:
        self._previous = {}
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._pid = os.getpid()
        atexit.register(gc.freeze)  # else leaving takes seconds, in which all that torch brings is searched for cycles
        self._watching = threading.Thread(target=self._watch, args=(read,), daemon=True, name="signals")
        self._watching.start()

    def install(self) -> None:
        """Sets the handlers, also where a library has put its own. A SIGHUP that was ignored before stays ignored."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            ours = signal.getsignal(number)
            if ours is signal.SIG_IGN and number == signal.SIGHUP and number not in self._previous:
                continue
            previous = signal.signal(number, self._handle)
            self._previous.setdefault(number, previous)

    def close(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(-1)
        self._pid = 0
        os.close(self._write)  # which ends the thread, once it has read what came before
        self._watching.join(timeout=JOIN_SECONDS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_open:
            self.handle(number)

    def _watch(self, file: int) -> None:
        with os.fdopen(file, "rb", buffering=0) as arriving:
            while arrived := arriving.read(64):
                for number in arrived:
                    if number in self._numbers:
                        self.arrived(number)
