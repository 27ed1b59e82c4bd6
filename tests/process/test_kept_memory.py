"""Freed memory is used again by the next step."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from mmtx.process.kept_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(24 * 2**20, dtype=torch.uint8).fill_(1) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
print(sum([faults() for _ in range(16)][-8:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_step_is_computed_in_the_memory_that_the_last_one_freed() -> None:
    """Eight tensors of 24 MiB are 49,152 pages of 4 KiB, each of which is a fault where the memory is new; eight steps
    of usual memory have up to 393,000."""
    command = [sys.executable, "-c", FAULTS]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults < 1000
