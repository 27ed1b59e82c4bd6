"""``mmtx train -m`` and ``mmtx resume`` as users type them."""

import json
import os
import signal
import time

import pytest
from run_cli import TINY, mmtx, start, text_of
from test_ranks import children

from mmtx.commands.main import main

ON_DIGITS = ["data=digits", "trainer.max_steps=3", "trainer.accelerator=cpu", "logger=[]", "callbacks=[progress]"]
ON_TWO_RANKS = [*ON_DIGITS, "trainer.devices=2"]


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


def jobs_of(folder):
    return json.loads((folder / "sweep.json").read_text())["jobs"]


def test_a_job_is_a_new_interpreter(tmp_path, monkeypatch):
    """As everywhere but in these tests, where jobs are forked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["train", "-m", "seed=1", "run_dir=sweep", "hydra.launcher.devices=cpu:1", *ON_DIGITS, *TINY]) == 0
    (job,) = jobs_of(tmp_path / "sweep")
    assert (job["state"], job["attempts"]) == ("finished", 1)
    assert len(losses(tmp_path / "sweep" / job["name"])) == 3
    assert "step 3/3" in (tmp_path / "sweep" / job["name"] / "log.txt").read_text()


@pytest.mark.slow
def test_a_rank_is_killed_and_the_sweep_survives(tmp_path):
    """Two jobs of two ranks each: one rank of the first is killed. The second ends as it does alone; `resume` repeats
    the first and nothing else."""
    words = ["train", "-m", "seed=1,2", "run_dir=sweep", "hydra.launcher.devices=cpu:2", *ON_TWO_RANKS, *TINY]
    launcher = start(*words, cwd=tmp_path, streams=[tmp_path / "printed"] * 2)
    try:
        deadline = time.monotonic() + 900
        while not (ranks := [each for job in children(launcher.pid) for each in children(job)])[1:]:
            assert launcher.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(ranks[1], signal.SIGKILL)
        launcher.join(900)
    finally:
        launcher.kill()
    printed = (tmp_path / "printed").read_text()
    assert launcher.exitcode == 1, printed
    first, second = jobs_of(tmp_path / "sweep")
    assert (first["state"], first["reason"]) == ("failed", "rank 1 was killed by SIGKILL"), printed
    assert second["state"] == "finished" and "mmtx resume" in printed
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
