"""Why a job ended, from its exit code and its ``status.json``."""

import signal
from pathlib import Path

from mmtx.process.child_processes import describe_exit
from mmtx.process.stopping import SIGNALS
from mmtx.run.run_record import read_json

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "out of memory", "can't allocate memory")


def outcome(folder: Path, code: int, memory_kills: int = 0) -> tuple[str, str | None]:
    """State and reason of a job that has ended.

    Args:
        folder: of the run.
        code: of its process; negative: the signal that killed it.
        memory_kills: processes that the kernel killed for lack of memory while the job ran.
    """
    status = read_json(folder / "status.json")
    error = status.get("error")
    if code == 0 or status.get("state") == "finished":  # whatever happened as its process exited
        return "finished", None
    if status.get("state") == "interrupted" or code - 128 in SIGNALS or -code in SIGNALS:
        return "interrupted", error or "stopped before there was anything to save"
    if status.get("state") != "failed" or not error:
        error = describe_exit(code)
    if code == -signal.SIGKILL and memory_kills:
        error = "was killed by the system: the machine ran out of memory"
    elif any(phrase in error for phrase in OUT_OF_MEMORY):
        error = f"out of memory: {error}"
    return "failed", error


def memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it booted; 0 where that is unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
