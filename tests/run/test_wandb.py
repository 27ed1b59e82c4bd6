"""W&B may be missing, unreachable or broken: the run goes on, and says so in one line."""

import json
import time

import pytest
from run_cli import TINY, mmtx, text_of

from mmtx.run.wandb_log import WandbLog

RUN = ["train", *TINY, "trainer.max_steps=2", "run_dir=run"]


def losses(folder):
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_without_a_key_the_run_is_logged_offline(tmp_path):
    nobody = {"WANDB_MODE": None, "WANDB_API_KEY": None, "NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)}
    done = mmtx(*RUN, cwd=tmp_path, env=nobody)
    assert done.returncode == 0, text_of(done)
    said = [line for line in done.stderr.splitlines() if "wandb" in line]
    assert len(said) == 1 and "offline" in said[0] and "wandb sync" in said[0], text_of(done)
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (file,) = offline.glob("*.wandb")
    assert file.stat().st_size > 1000


def test_without_a_network_nothing_changes_but_one_warning(tmp_path):
    closed = {"WANDB_MODE": None, "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = mmtx(*RUN, cwd=tmp_path, env=closed)
    assert done.returncode == 0, text_of(done)
    said = [line for line in done.stderr.splitlines() if "wandb" in line.lower()]
    assert len(said) == 1 and "cannot be reached" in said[0], text_of(done)
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    assert mmtx(*RUN, "logger=[]", cwd=quiet).returncode == 0
    assert losses(tmp_path) == losses(quiet)


@pytest.fixture
def log(tmp_path):
    return WandbLog(run_dir=tmp_path, config={}, run_name="x", project="mmtx", entity=None, tags=[], mode="offline")


def test_what_raises_is_told_once_and_left_alone(log, capsys):
    class Broken:
        def log(self, *args, **kwargs):
            raise RuntimeError("the service is gone")

    log._run = Broken()
    log.log_metrics({"a": 1.0}, 1)
    log.log_metrics({"a": 1.0}, 2)
    assert capsys.readouterr().err.count("the service is gone") == 1


def test_what_hangs_is_given_up(log, capsys, monkeypatch):
    class Hanging:
        def finish(self, exit_code):
            time.sleep(60)

    monkeypatch.setattr("mmtx.run.wandb_log.FINISH_SECONDS", 0.2)
    log._run = Hanging()
    start = time.monotonic()
    log.finish(0)
    assert time.monotonic() - start < 5
    assert "no answer" in capsys.readouterr().err
