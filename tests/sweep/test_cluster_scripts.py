"""The scripts of ``scripts/cluster``, with programs in place of SLURM's and of mmtx that note how they are called."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "cluster"
NOTES = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
"""
TRAINS = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
echo $$ > pid
trap 'sleep 0.2; echo saved >> calls; exit 143' TERM
touch up
while [ -e up ]; do sleep 0.05; done
"""
SIGNALS_THE_STEP = """#!/bin/sh
echo "scancel $*" >> calls
kill -TERM "$(cat pid)"
"""


@pytest.fixture
def start(tmp_path):
    """Starts a script where only these programs are."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def start(script, *words, **texts):
        for name, text in {"scontrol": NOTES, **texts}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "8"}
        nodes = {"NODE_RANK": "1", "NUM_NODES": "2", "DEVICES": "8", "MAIN": "10.0.0.1"}
        environment = {"PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin", **slurm, **nodes}
        return subprocess.Popen([SCRIPTS / script, *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)

    return start


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def wait_for(file):
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_torchrun_gets_the_place_of_this_machine(start, tmp_path):
    assert start("torchrun.sh", "run_dir=run", "seed=1", torchrun=NOTES).wait(60) == 0
    (call,) = calls(tmp_path)
    assert call == (
        "torchrun --nnodes 2 --node-rank 1 --nproc-per-node 8 --master-addr 10.0.0.1 --master-port 29500 "
        "--no-python mmtx train trainer.num_nodes=2 trainer.devices=8 run_dir=run seed=1"
    )


def test_a_run_on_slurm_saves_and_is_queued_again(start, tmp_path):
    process = start("slurm.sh", "run_dir=run", "seed=1", srun=TRAINS, scancel=SIGNALS_THE_STEP)
    wait_for(tmp_path / "up")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 143
    train = "srun mmtx train trainer.num_nodes=2 trainer.devices=8 run_dir=run seed=1"
    assert calls(tmp_path) == [train, "scancel --signal=TERM 7.0", "saved", "scontrol requeue 7"]


def test_a_run_that_was_queued_again_goes_on(start, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("{}")
    assert start("slurm.sh", "run_dir=run", "seed=1", srun=NOTES).wait(60) == 0
    assert calls(tmp_path) == ["srun mmtx resume run"]


def test_a_run_on_slurm_needs_a_directory(start, tmp_path):
    process = start("slurm.sh", "seed=1", srun=NOTES)
    assert process.wait(60) != 0 and b"run_dir" in process.stderr.read()
    assert not (tmp_path / "calls").exists()


def test_a_sweep_in_an_allocation_is_queued_again(start, tmp_path):
    process = start("sweep.sh", "run_dir=sweep", "seed=1,2", mmtx=TRAINS)
    wait_for(tmp_path / "up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert calls(tmp_path) == ["mmtx train -m run_dir=sweep seed=1,2", "saved", "scontrol requeue 7"]
