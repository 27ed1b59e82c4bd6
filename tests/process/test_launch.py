"""One answer to which rank a process is, and what has started it."""

import os
import re

import pytest
import torch
from run_cli import TINY, mmtx, text_of

from mmtx.errors import ProcessDied, UserError
from mmtx.experiment import Experiment
from mmtx.process.launch import OF_A_RANK, Launch, environment_of_none, launch
from mmtx.run.failure import explained
from mmtx.run.metrics_log import MetricsLog
from mmtx.run.run_record import read_run
from mmtx.training.trainer import Training

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
JOB = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "gpu[07-09,12],cpu1", "SLURM_NTASKS": "4"}
TASK = {"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"}
SRUN = {**JOB, **TASK, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
ALONE = Launch()


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables, and no other of a rank."""

    def put(variables):
        for key in filter(OF_A_RANK.fullmatch, list(os.environ)):
            monkeypatch.delenv(key)
        for key, value in variables.items():
            monkeypatch.setenv(key, value)

    put({})
    return put


@pytest.mark.parametrize(
    ("variables", "expected"),
    {
        "nothing": ({}, ALONE),
        "torchrun": (TORCHRUN, Launch("torchrun", 3, 1, 4, "10.0.0.1", 29500)),
        "torchrun within srun": ({**SRUN, **TORCHRUN}, Launch("torchrun", 3, 1, 4, "10.0.0.1", 29500)),
        "torchrun with one process": ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, ALONE),
        "srun": (SRUN, Launch("srun", 2, 0, 4, "gpu07", 15000 + 3456)),
        "srun with an address of the user's": (
            {**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29501"},
            Launch("srun", 2, 0, 4, "10.0.0.7", 29501),
        ),
        "srun with a rank left over": ({**SRUN, "RANK": "1"}, Launch("srun", 2, 0, 4, "gpu07", 18456)),
        "srun with one task": ({**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, ALONE),
        "a rank alone": ({"RANK": "1"}, ALONE),
        "a local rank alone": ({"LOCAL_RANK": "1"}, ALONE),
        "a pod": ({key: value for key, value in TORCHRUN.items() if key != "LOCAL_RANK"}, ALONE),
        "empty variables": (dict.fromkeys([*TORCHRUN, *SRUN], ""), ALONE),
        "no numbers": ({**TORCHRUN, "RANK": "one"}, ALONE),
        "a batch script": ({**JOB, **TASK, "SLURM_PROCID": "0", "SLURM_TASK_PID": "17"}, ALONE),
        "a batch script that is a step": ({**SRUN, "SLURM_STEP_ID": str(2**32 - 5)}, ALONE),
        "an interactive step": ({**SRUN, "SLURM_STEP_ID": str(2**32 - 6)}, ALONE),
        "the number of a task alone": ({"SLURM_PROCID": "2"}, ALONE),
    }.values(),
)
def test_only_a_launcher_makes_a_rank(environment, variables, expected):
    environment(variables)
    assert launch() == expected
    assert not {key for key in environment_of_none() if OF_A_RANK.fullmatch(key)}


def test_a_config_is_of_as_many_ranks_as_are_started(environment, capsys):
    launch().check(1, 1)
    launch().check(4, 1)  # which it starts itself
    with pytest.raises(UserError, match="trainer.num_nodes=2 needs a launcher"):
        launch().check(4, 2)
    assert capsys.readouterr().err == ""
    environment({"RANK": "1", "WORLD_SIZE": "2"})
    launch().check(1, 1)
    line = "mmtx: RANK=1 WORLD_SIZE=2 in the environment is ignored: a launcher of ranks also sets LOCAL_RANK, "
    assert capsys.readouterr().err.startswith(line)
    for variables, named in ((TORCHRUN, "WORLD_SIZE=4"), (SRUN, "SLURM_STEP_NUM_TASKS=4")):
        environment(variables)
        launch().check(2, 2)
        with pytest.raises(UserError, match=rf"{named} is in the environment, .* the config is of 1 \(") as raised:
            launch().check(1, 1)
        with pytest.raises(UserError, match=rf"{named} is in the environment, .* a sweep is one process"):
            launch().check_alone()
        (unset,) = re.findall("unset ([A-Z_]+)", str(raised.value))
        environment({key: value for key, value in variables.items() if key != unset})
        launch().check_alone()
        assert launch() == Launch()


def test_ranks_that_never_met_are_one_line(environment, capsys):
    error = torch.distributed.DistStoreError("Timed out after 1801 seconds waiting for clients. 1/2 clients joined.")
    experiment = Experiment.__new__(Experiment)
    assert explained(error, experiment) is error  # in a run that starts its ranks itself
    environment(TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"})
    launch().check(4, 1)
    (line,) = capsys.readouterr().err.splitlines()
    meet = f"{TORCHRUN['MASTER_ADDR']}:{TORCHRUN['MASTER_PORT']}"
    assert line == f"mmtx: 4 ranks of torchrun meet at {meet}, as the environment has it"
    died = explained(error, experiment)
    assert isinstance(died, ProcessDied)
    assert f"have not met at {meet} (Timed out after 1801 seconds" in str(died) and "unset WORLD_SIZE" in str(died)


def test_lightning_finds_no_ranks_and_no_settings_by_itself(environment, tmp_path):
    stray = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", **JOB, **TASK, "SLURM_JOB_NAME": "train"}
    environment({**stray, "PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1"})
    training = Training(
        max_steps=9,
        max_epochs=None,
        accelerator="cpu",
        devices=1,
        num_nodes=1,
        strategy="auto",
        precision="32-true",
        accumulate_grad_batches=1,
        val_every_steps=None,
        nonfinite="stop",
        max_skips=1,
        data_timeout_s=None,
    )
    log = MetricsLog(tmp_path / "metrics.jsonl")
    trainer = training.trainer(total_steps=9, epoch_steps=9, run_dir=tmp_path, loggers=[log], callbacks=[])
    assert (trainer.global_rank, trainer.local_rank, trainer.world_size, trainer.node_rank) == (0, 0, 1, 0)
    assert not trainer.fast_dev_run and trainer.limit_train_batches == 1.0
    log.close()


def test_what_is_left_over_changes_no_run(tmp_path):
    words = ["experiment=vit_digits", *TINY, "trainer.max_steps=2", "logger=[]", "callbacks=[]"]
    stray = {"RANK": "1", **JOB, **TASK, "SLURM_JOB_NAME": "train", "SLURM_RESTART_COUNT": ""}
    done = mmtx("train", *words, "run_dir=run", cwd=tmp_path, env=stray)
    assert done.returncode == 0 and "RANK=1 in the environment is ignored" in done.stderr, text_of(done)
    record = read_run(tmp_path / "run")
    assert record.state == "finished" and [row["step"] for row in record.rows][:2] == [1, 2]
