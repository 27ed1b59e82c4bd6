"""The memory at the peak, against what Linux says of the process."""

import re
import sys
from pathlib import Path

import pytest

from mmtx.process import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_that_of_the_process():
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak_memory.peak_memory() == pytest.approx(int(kilobytes) * 1024, rel=0.05)


def test_a_system_that_does_not_say(monkeypatch):
    monkeypatch.setattr(peak_memory, "resource", None)
    assert peak_memory.peak_memory() == 0
