"""Ctrl-C while the ranks of a run come up: there is nothing to save, and nobody waits for anybody."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TWO_RANKS = ["logger=[]", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=10000"]


def children(pid):
    return [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_ranks_that_start_are_interrupted(seconds, tmp_path):
    command = [str(Path(sys.executable).parent / "mmtx"), "train", "run_dir=run", "experiment=vit_digits", *TWO_RANKS]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(ranks := children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()  # and its ranks with it
    assert process.returncode == 130, told
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    assert len(ranks) == 2 and not any(Path(f"/proc/{rank}").exists() for rank in ranks)
