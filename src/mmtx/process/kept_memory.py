"""Memory that the C library keeps for the next step rather than give back to the system."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of a block, the most that glibc takes. Larger ones would leave holes that no other block fits."""
WHOLE_HEAP = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have freed blocks of up to 32 MiB used again in this process; whether that was done (glibc does it, others not).

    By default glibc gives the end of its heap back to the system once a few tens of MiB of it are free, so that a
    training step on a CPU pays a page fault for every 4 KiB of its large tensors, anew at each step: a twelfth of the
    time of a step over 16,384 tokens. In return the process stays as large as it once was.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, WHOLE_HEAP))
