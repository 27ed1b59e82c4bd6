"""How far long loops are, on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

QUIET_SECONDS, SECONDS_BETWEEN_LINES = 2.0, 10.0
"""A loop that ends sooner shows nothing; and where the output is not a terminal, a line comes every so often."""


def show_progress(shown: bool) -> None:
    """Whether loops of this process show how far they are; of several ranks, one does."""
    Progress.is_shown = shown


class Progress:
    """How far one loop is, from `__enter__` to `__exit__`.

    Args:
        what: the loop does, and to what: ``making clips``.
        total: items; None: not known.
    """

    is_shown = True
    _last_line = 0.0
    _running: list[Progress] = []

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._begun = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self._running.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.remove(self)
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()

    def __str__(self) -> str:
        return f"{self.what} {self.done}" + (f"/{self.total}" if self.total is not None else "")

    def advance(self) -> None:
        """One item more."""
        self.done += 1
        now = time.monotonic()
        if not self.is_shown or now - self._begun < QUIET_SECONDS:
            return
        with contextlib.suppress(OSError, ValueError):  # nobody looks any more
            if sys.stderr.isatty():
                self._draw()
            elif now - max(Progress._last_line, self._begun) > SECONDS_BETWEEN_LINES:
                Progress._last_line = now
                print("mmtx: " + ", ".join(map(str, self._running)), file=sys.stderr, flush=True)

    def _draw(self) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(desc=self.what, total=self.total, initial=self.done - 1, leave=False, dynamic_ncols=True)
        self._bar.update()
