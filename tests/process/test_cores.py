"""The cores of a process, and who may prepare batches on them."""

import os

import pytest

from mmtx.commands.printed import summary
from mmtx.experiment import build
from mmtx.process.cores import cores
from mmtx.training import trainer
from mmtx.training.trainer import Training


@pytest.fixture(autouse=True)
def eight(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("MMTX_CORES", raising=False)


@pytest.mark.parametrize(("share", "found"), [("", 8), ("3", 3), ("99", 8), ("0", 1), ("all", 8)])
def test_a_job_of_a_sweep_has_its_share(share, found, monkeypatch):
    monkeypatch.setenv("MMTX_CORES", share)
    assert cores() == found


@pytest.mark.parametrize(
    ("device", "ranks", "share", "workers"),
    [("cpu", 1, 8, 0), ("cuda", 1, 8, 7), ("cuda", 4, 8, 1), ("cuda", 8, 8, 0), ("cuda", 1, 2, 1)],
)
def test_workers_by_themselves(device, ranks, share, workers, monkeypatch):
    """On a GPU one for each core but that of the process, whose ranks and neighbours have their own."""
    monkeypatch.setenv("MMTX_CORES", str(share))
    monkeypatch.setattr(Training, "device_type", device)
    monkeypatch.setattr(trainer, "count_devices", lambda *_: ranks)
    experiment = build(["data=digits"])
    assert experiment.data.num_workers == workers
    assert summary(experiment).endswith(f"training samples{f', {workers} workers' if workers else ''}")
    assert build(["data=digits", "loader.num_workers=2"]).data.num_workers == 2


def test_there_are_eight_at_most(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(Training, "device_type", "cuda")
    monkeypatch.setattr(trainer, "count_devices", lambda *_: 1)
    assert build(["data=digits"]).data.num_workers == 8
