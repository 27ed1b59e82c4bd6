"""Requests to stop, which are signals, and the long loops that obey them.

SIGTERM, SIGINT, SIGHUP and SLURM's SIGUSR1 are requests to save what there is to save, and to end. How soon one takes
effect depends on what is under way (`Obey`). A loop that may last longer than a second or two goes through `track`, or
calls `check`, which raise `Interrupted`; that goes for loops of plugins, too.

How signals reach this process is in `signals.py`. On Windows, where nothing is trained, they have their usual effect.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from enum import IntEnum
from typing import TypeVar

from mmtx.process.progress import Progress
from mmtx.process.signals import SignalHandling

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
ONE_SIGNAL_SECONDS = 1.0
"""Signals so close together are one request: a terminal and the process above both pass it on."""
PATIENCE_SECONDS = 1.5
"""How long a call into a library may hold up the end of a process that has nothing to save."""
SHARED_SECONDS = 0.25
"""How often a long loop looks whether another rank has a request."""

Item = TypeVar("Item")


class Interrupted(BaseException):
    """A request to stop took effect. Like `KeyboardInterrupt` it is no `Exception`, so that code which goes on after
    any error does not go on after this.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class Obey(IntEnum):
    """When a request to stop takes effect."""

    LATER = 0
    """It is kept: a step or a file has to become whole, or ranks have to agree first."""
    AT_CHECKS = 1
    """`check` and `track` raise."""
    AT_ONCE = 2
    """The signal itself raises, wherever Python is: there is nothing to save."""


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items of a long loop. Before each, a request to stop takes effect; once the loop takes long, standard
    error shows how far it is.

    Args:
        items: to loop over.
        what: the loop does, and to what: ``making clips``.
        total: how many there are, where `items` has no length.

    Raises:
        Interrupted: where a request to stop takes effect here, see `Obey`.
    """
    with Progress(what, len(items) if total is None and isinstance(items, Sized) else total) as progress:
        for item in items:
            check()
            progress.advance()
            yield item


def check() -> None:
    """Raises `Interrupted` if there is a request to stop, on any rank, and it may take effect here."""
    if _requests.level > Obey.LATER and (number := requested()):
        _requests.has_raised = True
        raise Interrupted(number)


def requested() -> int:
    """The signal by which this process, or another rank, was requested to stop; 0: none."""
    return _requests.number or _requests.look_around()


@contextlib.contextmanager
def obeyed(level: Obey) -> Iterator[None]:
    """Within, a request to stop takes effect at `level`. One that came before takes effect on entry."""
    before, _requests.level = _requests.level, level
    try:
        if level is Obey.AT_ONCE:
            check()
        yield
    finally:
        _requests.level = before


def obey(level: Obey) -> None:
    """From here to the end of the `obeyed` or `handling_signals` around it, a request takes effect at `level`."""
    _requests.level = level


@contextlib.contextmanager
def handling_signals(*, from_the_start: bool = True) -> Iterator[None]:
    """Within, signals are requests to stop. A second one, more than a second after the first, ends the process at once.
    A SIGHUP that is ignored when this begins, as ``nohup`` has it, stays ignored.

    Args:
        from_the_start: False: signals have their usual effect until `handle_signals` is called.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if _requests.is_open or not is_main or sys.platform == "win32":
        yield
        return
    _requests.reset()
    _requests.open()
    try:
        if from_the_start:
            handle_signals()
        yield
    finally:
        _requests.close()
        _requests.reset()


def handle_signals() -> None:
    """Has signals be requests to stop, also where a library has put handlers of its own; within `handling_signals`."""
    if _requests.is_open:
        _requests.install()


@contextlib.contextmanager
def passed_on(to: Callable[[int], None]) -> Iterator[None]:
    """Within, every request is passed on, and a second one does not end this process: it ends with those below it.

    Args:
        to: given the signal, in a thread of its own. It is called for a request from before as well.
    """
    with _requests.lock:
        _requests.passes_on = to
        earlier = _requests.number
    if earlier:
        to(earlier)
    try:
        yield
    finally:
        _requests.passes_on = None


@contextlib.contextmanager
def recorded(by: Callable[[int], None]) -> Iterator[None]:
    """Within, a process that ends at once first has its end recorded.

    Args:
        by: given the signal, in a thread of its own.
    """
    _requests.records.append(by)
    try:
        yield
    finally:
        _requests.records.remove(by)


def share(send: Callable[[int], None], look: Callable[[], int]) -> None:
    """Makes a request of one rank one of all ranks, until the end of `handling_signals`.

    Args:
        send: called with the signal in a thread of its own when this process gets one.
        look: gives the signal that another rank got; 0: none.
    """
    _requests.send, _requests.look = send, look
    if _requests.number:
        send(_requests.number)


class _Requests(SignalHandling):
    """Those to this process."""

    def __init__(self) -> None:
        super().__init__(SIGNALS)
        self.lock = threading.Lock()
        self.records: list[Callable[[int], None]] = []
        self._patience: threading.Timer | None = None
        self.reset()

    def reset(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.number, self.level = 0, Obey.AT_ONCE
        self.passes_on: Callable[[int], None] | None = None
        self.send: Callable[[int], None] = lambda number: None
        self.look: Callable[[], int] = lambda: 0
        self.records.clear()
        self._first, self.has_raised, self._looked = 0.0, False, 0.0
        self._patience = None

    def look_around(self) -> int:
        """What another rank has, looked up a few times a second at most."""
        now = time.monotonic()
        if now - self._looked > SHARED_SECONDS:
            self._looked, self.number = now, self.number or self.look()
        return self.number

    def handle(self, number: int) -> None:
        self.number = self.number or number
        if self.level is Obey.AT_ONCE and not self.has_raised:
            self.has_raised = True
            raise Interrupted(self.number)

    def arrived(self, number: int) -> None:
        with self.lock:
            now, is_first = time.monotonic(), not self._first
            if not is_first and now - self._first <= ONE_SIGNAL_SECONDS:
                return
            self._first = self._first or now
            self.number, pass_on = self.number or number, self.passes_on
        if pass_on is not None:
            pass_on(number)
        elif not is_first:
            self._end(number)
        if is_first:
            with contextlib.suppress(Exception):  # the other ranks may be gone
                self.send(number)
        if is_first and self.level is Obey.AT_ONCE:
            self._patience = threading.Timer(PATIENCE_SECONDS, self._end_what_hangs, [number])
            self._patience.daemon = True
            self._patience.start()

    def _end_what_hangs(self, number: int) -> None:
        """Ends the process if its main thread is still in the call that the signal found it in."""
        if self.level is Obey.AT_ONCE and not self.has_raised:
            self._end(number)

    def _end(self, number: int) -> None:
        for record in self.records:
            with contextlib.suppress(Exception):
                record(number)
        os._exit(128 + number)


_requests = _Requests()
