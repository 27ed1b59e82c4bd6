"""The processor cores that this process may use."""

import os

VARIABLE = "MMTX_CORES"
"""In the environment of a job beside which others run on this machine: its share."""


def cores() -> int:
    """How many there are for this process and those that it starts."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(VARIABLE, "")
    return min(here, max(int(share), 1)) if share.isdecimal() else here
