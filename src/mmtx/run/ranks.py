"""A run on several devices of this machine: one process per device, none of which sees the command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 10.0
"""How long the other ranks may go on after one has ended badly."""


def run_ranks(run_dir: Path, num_ranks: int, checkpoint: Path | None) -> tuple[int, str | None]:
    """Starts the ranks with torchrun's environment and waits for them. Signals are passed on.

    Returns:
        0, or the exit code of the first rank that failed, and what is to say if a signal killed it. The others are
        given `GRACE_SECONDS` to end.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(num_ranks)}
    threads = str(max(1, (os.cpu_count() or 1) // num_ranks))
    command = [sys.executable, "-m", "mmtx.run.job", str(run_dir), *([str(checkpoint)] if checkpoint else [])]
    ranks: list[subprocess.Popen[bytes]] = []
    with _signals_passed_on(ranks):
        for rank in range(num_ranks):
            own = {"OMP_NUM_THREADS": threads, **os.environ, **address, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen(command, env=own))
        try:
            return _wait(ranks)
        finally:
            for process in ranks:
                process.kill()
                process.wait()


def _wait(ranks: list[subprocess.Popen[bytes]]) -> tuple[int, str | None]:
    first, deadline = None, float("inf")
    while any(process.poll() is None for process in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
        first = first or next((process for process in ranks if process.poll()), None)
        if first is not None and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_SECONDS
    first = first or next((process for process in ranks if process.returncode), None)
    if first is None:
        return 0, None
    if first.returncode >= 0:
        return first.returncode, None
    name = signal.Signals(-first.returncode).name
    why = " (the kernel kills so where memory runs out)" if name == "SIGKILL" else ""
    return 1, f"rank {ranks.index(first)} (pid {first.pid}) died: {name}{why}; the other ranks were ended"


@contextmanager
def _signals_passed_on(ranks: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
