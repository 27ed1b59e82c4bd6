"""Calls that must not hold up this process."""

import threading
from collections.abc import Callable


def within(call: Callable[[], object], seconds: float) -> str | None:
    """Runs a call in a thread of its own, left behind if it hangs. Gives None, or why it did not end well in time."""
    failures = [f"no answer in {seconds:.0f} s"]

    def target() -> None:
        try:
            call()
            failures.clear()
        except BaseException as error:  # a library raises many kinds; none may end a run
            failures[0] = (" ".join(str(error).split()) or type(error).__name__)[:200]

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    return failures[0] if failures else None
