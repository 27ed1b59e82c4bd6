"""Processes that this one starts, watches, and takes with it when it ends."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtx.process import parent_watch


class ChildProcesses:
    """Each leads a session of its own, so that a terminal's Ctrl-C reaches this process only, which passes it on.

    Args:
        grace_s: seconds that a child has to save when this process dies.
    """

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._ended: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()

    @property
    def names(self) -> list[str]:
        """Those whose end `wait` has not returned yet."""
        return list(self._running)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path | None) -> None:
        """Starts a process.

        Args:
            name: by which it is known here.
            command: its words.
            environment: the whole of it.
            log: where its output is appended; None: where this process writes.
        """
        read, write = os.pipe()
        environment = {**environment, parent_watch.VARIABLE: f"{read}:{self._grace_s}"}
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, read)
            output = stack.enter_context(log.open("ab")) if log is not None else None
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                pass_fds=(read,),
                start_new_session=True,
            )
        self._running[name] = (process, write)
        threading.Thread(target=self._watch, args=(name, process), daemon=True).start()

    def wait(self, seconds: float | None) -> list[tuple[str, int]]:
        """Names and exit codes (negative: the signal) of those that ended; waits for the first, or for `wake`."""
        ended = []
        with contextlib.suppress(queue.Empty):
            item = self._ended.get(timeout=seconds)
            while True:
                if item is not None:
                    os.close(self._running.pop(item[0])[1])
                    ended.append(item)
                item = self._ended.get_nowait()
        return ended

    def wake(self) -> None:
        """Ends a `wait` early; may be called from another thread."""
        self._ended.put(None)

    def signal(self, name: str, number: int) -> None:
        """Signals one child, not what it has started: it knows best."""
        self._running[name][0].send_signal(number)

    def signal_all(self, number: int) -> None:
        """Signals every child; may be called from another thread."""
        for process, _ in list(self._running.values()):
            process.send_signal(number)

    def kill(self, name: str) -> None:
        """Kills one child with everything in its process group."""
        _kill_group(self._running[name][0].pid)

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        _kill_group(process.pid)  # what it has left behind
        self._ended.put((name, code))


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def worker_command(run_dir: Path, checkpoint: Path | None = None) -> list[str]:
    """What starts a job, on this machine or another; or a rank, with the checkpoint that it goes on from."""
    alone = "-P"  # a user's random.py in the working directory is not taken for Python's own
    return [sys.executable, alone, "-m", "mmtx.run.worker", str(run_dir), *([str(checkpoint)] if checkpoint else [])]


def describe_exit(code: int) -> str:
    """An exit code in words: ``ended with exit code 1``, ``was killed by SIGKILL``."""
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
