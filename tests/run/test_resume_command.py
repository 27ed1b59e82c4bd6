"""What `mmtx resume` refuses, and with which message."""

import fcntl
import json
import shutil

import pytest
import torch
import yaml
from run_cli import TINY
from test_resume import play

from mmtx.commands.main import main
from mmtx.errors import UserError
from mmtx.run.directory import RunDirectory
from mmtx.run.resume import resume

WORDS = [
    *("train", "data=text_file", "data.path=text.txt", "data.context=16", "modality=[text]", "objective=[next_token]"),
    *(*TINY[:3], "trainer.max_steps=8", "loader.batch_size=4", "checkpoint.every_steps=2", "logger=[]", "callbacks=[]"),
    *("optim.warmup_steps=0", "trainer.val_every_steps=8", "loader.eval_batch_size=64", "run_dir=run"),
]
TEXT = "To be, or not to be, that is the question.\n" * 40


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was requested to stop in its fifth step."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text.txt").write_text(TEXT)
    (done,) = play([{"cwd": str(folder), "words": WORDS, "at": "step.start", "nth": 5, "do": "term"}])
    assert done["code"] == 143, done["output"]
    return folder


@pytest.fixture
def run(stopped, monkeypatch):
    monkeypatch.chdir(stopped)
    return RunDirectory(stopped / "run")


def test_it_is_interrupted(run):
    assert json.loads(run.status.read_text())["state"] == "interrupted"


def test_a_folder_without_a_run(run):
    with pytest.raises(UserError, match="nowhere is not there"):
        resume(run.path / "nowhere")


def test_what_would_be_another_run(run):
    with pytest.raises(UserError, match=r"optim.lr=1 would be another run; .* may change .*trainer.devices"):
        resume(run.path, ["optim.lr=1"])


def test_other_data(run, stopped):
    (stopped / "text.txt").write_text(TEXT + TEXT)
    try:
        with pytest.raises(UserError, match="belongs to another experiment(.|\n)*data train.samples: checkpoint"):
            resume(run.path)
    finally:
        (stopped / "text.txt").write_text(TEXT)


def test_data_that_lie_elsewhere_are_taken_if_they_are_the_same(run, stopped, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT + TEXT)
    moved = f"data.path={tmp_path / 'text.txt'}"
    with pytest.raises(UserError, match=r"belongs to another experiment[^\n]*\n  - data train.hash_of_some"):
        resume(run.path, [moved])
    (tmp_path / "text.txt").write_text(TEXT)
    shutil.copytree(run.path, tmp_path / "run")
    assert resume(tmp_path / "run", [moved]) == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["path"] == str(tmp_path / "text.txt")


def test_another_config(run):
    before = run.config.read_text()
    config = yaml.safe_load(before)
    run.config.write_text(yaml.safe_dump({**config, "seed": 5, "backbone": {**config["backbone"], "dim": 64}}))
    try:
        with pytest.raises(UserError, match="backbone.dim: checkpoint 32, now 64\n  - seed: checkpoint 0, now 5"):
            resume(run.path)
    finally:
        run.config.write_text(before)


def test_a_config_from_before_a_key_existed(run, stopped, tmp_path):
    """Top-level keys come from ``train.yaml``, in the run and in its checkpoint; others do not."""
    from mmtx.run.checkpoint_file import write_checkpoint

    old = tmp_path / "run"
    shutil.copytree(run.path, old)
    config = yaml.safe_load(run.config.read_text())
    for key in ("freeze", "hint", "modality_dropout"):
        del config[key]
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    stored = {key: value for key, value in config.items() if key != "format"}
    for file in {file.resolve() for file in (old / "checkpoints").glob("*.ckpt")}:
        content = torch.load(file, weights_only=True)
        write_checkpoint(file, {**content, "mmtx": {**content["mmtx"], "config": stored}})
    del config["data"]["context"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    words = [
        ["evaluate", str(old), "split=val"],
        ["resume", str(old)],
        ["train", "--config", str(tmp_path / "other.yaml")],
    ]
    evaluated, resumed, other = play([{"cwd": str(stopped), "words": each} for each in words])
    line = "taken as their defaults: freeze=[] hint=None modality_dropout={}"
    assert evaluated["code"] == 0 and evaluated["output"].count(line) == 1, evaluated["output"]
    assert resumed["code"] == 0 and resumed["output"].count(line) == 1, resumed["output"]
    assert other["code"] == 2 and "data.context" in other["output"], other["output"]


def test_a_key_that_has_moved_is_refused_by_its_new_name(run):
    with pytest.raises(UserError, match="^data.num_workers=1 has moved; write loader.num_workers=1$"):
        resume(run.path, ["data.num_workers=1"])


def test_a_run_that_goes_on_elsewhere(run):
    with run.lock(), pytest.raises(UserError, match="is in use by pid "):
        resume(run.path)
    with run.lock(), (run.path / ".lock").open() as file, pytest.raises(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_job_that_slurm_starts_again_goes_on(run, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunDirectory(run.path).lock():
        assert main(WORDS) == 2
    assert "is in use by" in capsys.readouterr().err


def test_it_goes_on_to_its_end_and_no_further(run, stopped):
    words = ["resume", "run", "loader.num_workers=1"]
    on, again = play([{"cwd": str(stopped), "words": words}, {"cwd": str(stopped), "words": ["resume", "run"]}])
    assert on["code"] == 0 and "continues from step 5 of 8" in on["output"], on["output"]
    assert yaml.safe_load(run.config.read_text())["loader"]["num_workers"] == 1
    assert again["code"] == 0 and "is finished" in again["output"], again["output"]


def test_a_job_that_was_stopped_before_it_began_is_begun(run, tmp_path):
    """Its launcher has written its config, and why it ended; nothing else is there."""
    job = RunDirectory(tmp_path / "job")
    job.path.mkdir()
    shutil.copy(run.config, job.config)
    job.set_status("interrupted", "stopped before there was anything to save")
    assert resume(job.path) == 0
    assert job.state() == "finished" and job.last.is_file()
    assert "python" in json.loads(job.environment.read_text())
