"""A run on several devices of this machine: one process per device, none of which sees the command line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 15.0
"""How long the other ranks may go on after one has ended badly."""


def run_ranks(run_dir: Path, num_ranks: int) -> int:
    """Starts the ranks with torchrun's environment and waits for them.

    Returns:
        0, or the exit code of the first rank that failed. The others are then given `GRACE_SECONDS` to end.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(num_ranks)}
    threads = str(max(1, (os.cpu_count() or 1) // num_ranks))
    ranks = []
    for rank in range(num_ranks):
        environment = {"OMP_NUM_THREADS": threads, **os.environ, **address, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        ranks.append(subprocess.Popen([sys.executable, "-m", "mmtx.run.job", str(run_dir)], env=environment))
    try:
        return _wait(ranks)
    finally:
        for process in ranks:
            process.kill()
            process.wait()


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    first_failure, deadline = 0, float("inf")
    while any(process.poll() is None for process in ranks) and time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            continue  # the terminal signals every rank itself; they save and end
        codes = [process.returncode for process in ranks if process.returncode]
        if codes and not first_failure:
            first_failure, deadline = codes[0], time.monotonic() + GRACE_SECONDS
    codes = [process.returncode for process in ranks if process.returncode]
    return first_failure or (codes[0] if codes else 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
