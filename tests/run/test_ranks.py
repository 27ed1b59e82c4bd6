"""Ranks that end, or are interrupted as they come up: nobody waits for anybody for long."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmtx.process.child_processes import ChildProcesses
from mmtx.run import ranks

TWO_RANKS = ["logger=[]", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=10000"]


def children(pid):
    return [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, pytest.param(3.0, marks=pytest.mark.slow)])
def test_ranks_that_start_are_interrupted(seconds, tmp_path):
    command = [str(Path(sys.executable).parent / "mmtx"), "train", "run_dir=run", "experiment=vit_digits", *TWO_RANKS]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(found := children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    finally:
        process.kill()  # and its ranks with it
    assert process.returncode == 130, error
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    assert len(found) == 2 and not any(Path(f"/proc/{rank}").exists() for rank in found)


def test_a_rank_that_waits_for_one_that_has_died_is_not_waited_for(monkeypatch):
    assert ranks.GRACE_SECONDS < 15
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.3)
    started, begun = ChildProcesses(grace_s=1.0), time.monotonic()
    started.start("0", ["sleep", "60"], {}, None)
    started.start("1", ["sh", "-c", "kill -9 $$"], {}, None)
    try:
        assert ranks._wait(started) == (-9, "rank 1 was killed by SIGKILL")
        assert 0.3 <= time.monotonic() - begun < 10
    finally:
        started.kill("0")
        assert started.wait(10.0) == [("0", -9)]
