"""Freed memory is used again by the next step."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from mmtx.process.kept_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(24 * 2**20, dtype=torch.uint8).fill_(1) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    assert keep_freed_memory()
print(sum(faults() for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_step_is_computed_in_the_memory_that_the_last_one_freed() -> None:
    """Eight tensors of 24 MiB are 49,152 pages of 4 KiB, each of which is a fault where the memory is new."""
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, text=True, check=True).stdout)
        for words in ([], ["keep"])
    )
    assert usual > 2 * kept or usual < 49_152  # the latter where the system gives larger pages
