"""``mmtx train -m`` and ``mmtx resume`` as users type them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from run_cli import TINY, mmtx, text_of

ON_TWO_RANKS = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_steps=3", "logger=[]", "callbacks=[]"]


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


def jobs_of(folder):
    return json.loads((folder / "sweep.json").read_text())["jobs"]


def rank_of(folder, number):
    """The process of a rank of a run in `folder`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(folder).encode() in command and f"\0RANK={number}\0".encode() in b"\0" + environment:
            return int(process.name)
    return None


def test_a_rank_is_killed_and_the_sweep_survives(tmp_path):
    """Two jobs of two ranks each: one rank of the first is killed. The second ends as it does alone; `resume` repeats
    the first and nothing else."""
    words = ["train", "-m", "seed=1,2", "run_dir=sweep", "hydra.launcher.devices=cpu:2", *ON_TWO_RANKS, *TINY]
    command = [str(Path(sys.executable).parent / "mmtx"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 900
    while (victim := rank_of(tmp_path / "sweep", 1)) is None:
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    said, _ = launcher.communicate(timeout=900)
    assert launcher.returncode == 1, said
    first, second = jobs_of(tmp_path / "sweep")
    assert (first["state"], first["reason"]) == ("failed", "rank 1 was killed by SIGKILL"), said
    assert second["state"] == "finished" and "mmtx resume" in said
    run = tmp_path / "sweep" / second["name"]
    before = (run / "metrics.jsonl").stat().st_mtime_ns

    resumed = mmtx("resume", "sweep", cwd=tmp_path, timeout=900)
    assert resumed.returncode == 0, text_of(resumed)
    assert [job["state"] for job in jobs_of(tmp_path / "sweep")] == ["finished", "finished"]
    assert [job["attempts"] for job in jobs_of(tmp_path / "sweep")] == [2, 1]
    assert (run / "metrics.jsonl").stat().st_mtime_ns == before

    alone = mmtx("train", "--config", str(run / "config.yaml"), "run_dir=alone", cwd=tmp_path, timeout=900)
    assert alone.returncode == 0, text_of(alone)
    assert len(losses(run)) == 3 and losses(tmp_path / "alone") == losses(run)

    again = mmtx(*words, cwd=tmp_path)  # the same command: there is nothing left to do
    assert again.returncode == 0 and "started" not in again.stdout, text_of(again)
    other = mmtx(*[word.replace("seed=1,2", "seed=3,4") for word in words], cwd=tmp_path)
    assert other.returncode == 2 and "another sweep" in other.stderr, text_of(other)


def test_a_launcher_without_a_sweep_and_a_resume_without_one_are_refused(tmp_path):
    single = mmtx("train", "hydra/launcher=slots", cwd=tmp_path)
    assert single.returncode == 2 and "-m" in single.stderr
    nothing = mmtx("resume", ".", cwd=tmp_path)
    assert nothing.returncode == 2 and "sweep.json" in nothing.stderr
