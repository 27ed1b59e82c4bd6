"""SLURM is asked to start a job again, by the id that it knows it by."""

import pytest

from mmtx.run.interrupt import requeue


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"SLURM_JOB_ID": "17"}, "requeue 17"),
        ({"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 17_3"),
        ({}, None),
    ],
    ids=["job", "array", "no job"],
)
def test_requeue(environment, asked, tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "PATH": f"{tmp_path}:/bin:/usr/bin"}.items():
        monkeypatch.setenv(name, value)
    requeue()
    said = (tmp_path / "asked").read_text().strip() if (tmp_path / "asked").exists() else None
    assert said == asked


def test_a_cluster_that_cannot_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", str(tmp_path))
    requeue()
    assert "cannot requeue SLURM job 17" in capsys.readouterr().err
