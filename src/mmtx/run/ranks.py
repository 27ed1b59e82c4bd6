"""A run on several devices of this machine: one process per device, none of which sees the command line."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mmtx.process.child_processes import ChildProcesses, describe_exit, worker_command
from mmtx.process.launch import environment_of_none
from mmtx.process.stopping import SIGNALS, Obey, obeyed, passed_on, track

GRACE_SECONDS = 10.0
"""How long the other ranks may go on after one has ended badly: without it they wait for each other."""

SAVE_SECONDS = 60.0
"""How long the ranks may save when this process dies."""

INTERRUPTED = tuple(128 + number for number in SIGNALS)
NOT_BEGUN = "stopped before the first step or after the last"


def run_ranks(run_dir: Path, num_ranks: int, checkpoint: Path | None) -> tuple[int, str | None]:
    """Starts the ranks with torchrun's environment and waits for them. Requests to stop are passed on to all.

    Returns:
        The exit code, 0 if all ranks ended well, and else what happened to the first that did not. The others are then
        given `GRACE_SECONDS`, unless the run was interrupted and they are saving. A rank that a request to stop has
        killed had nothing to save yet: so it stands for the run.

    Raises:
        Interrupted: there was a request to stop before all ranks were started.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(num_ranks)}
    threads = str(max(1, (os.cpu_count() or 1) // num_ranks))
    mine = environment_of_none()
    mine["OMP_NUM_THREADS"] = mine.get("OMP_NUM_THREADS") or threads
    ranks = ChildProcesses(grace_s=SAVE_SECONDS)
    try:
        with _held_back(), obeyed(Obey.AT_CHECKS):
            for rank in track(range(num_ranks), "starting rank"):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                ranks.start(str(rank), worker_command(run_dir, checkpoint), {**mine, **address, **own}, log=None)
        with passed_on(ranks.signal_all):
            return _wait(ranks)
    finally:
        for name in ranks.names:
            ranks.kill(name)


def _wait(ranks: ChildProcesses) -> tuple[int, str | None]:
    code, reason, unsaved = 0, None, False
    deadline: float | None = None
    while ranks.names:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        for rank, ended in ranks.wait(left):
            if -ended in SIGNALS and not unsaved:  # the others have nothing to save either
                code, reason, unsaved = 128 - ended, NOT_BEGUN, True
                deadline = time.monotonic() + GRACE_SECONDS
                ranks.signal_all(-ended)
            elif not unsaved and ended and (not code or code in INTERRUPTED and ended not in INTERRUPTED):
                code, reason = ended, f"rank {rank} {describe_exit(ended)}"
                deadline = None if ended in INTERRUPTED else time.monotonic() + GRACE_SECONDS
    return code, reason


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Within, SIGINT is blocked. Processes that are started here inherit that, and unblock it once it ends them without
    a traceback; see `mmtx.run.worker`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _free_port() -> int:
    """A port below those that the system gives to connections: many jobs may start at once, each with its own."""
    for port in random.SystemRandom().sample(range(15000, 32000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port for the ranks between 15000 and 32000")
