"""Calls that must not hold up this process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def within(seconds: float, call: Callable[[], Value]) -> Value:
    """What a call gives, in a thread of its own, left behind if it hangs. Raises its error, or `TimeoutError`."""
    try:
        return _begun(call).result(seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def failure_within(seconds: float, call: Callable[[], object]) -> str | None:
    """None, or in a few words why a call did not end well in time. No error of a library ends a run."""
    try:
        error = _begun(call).exception(seconds)
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    return None if error is None else (" ".join(str(error).split()) or type(error).__name__)[:200]


def _begun(call: Callable[[], Value]) -> Future[Value]:
    outcome: Future[Value] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # a library raises many kinds
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome
