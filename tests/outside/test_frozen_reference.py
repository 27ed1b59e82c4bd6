"""An objective from outside that compares with the model at the start of the run, as docs/extending.md shows it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_cli import TINY, mmtx, text_of

import mmtx as library

PACKAGE = Path(__file__).parent / "frozen_reference"
GUIDE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
RUN = [
    *("plugins=[anchored]", "experiment=vit_digits", "objective=[anchored]", *TINY, "callbacks=[]", "optim.lr=1e-3"),
    *("trainer.max_steps=20", "checkpoint.every_steps=7", "checkpoint.keep=9", "loader.batch_size=16"),
]
NOISE = ["optim.ema_decay=0.9", "backbone.dropout=0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, and a run of it of 20 steps."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(PACKAGE, folder, dirs_exist_ok=True)
    done = mmtx("train", *RUN, *NOISE, "run_dir=run", cwd=folder)
    assert done.returncode == 0, text_of(done)
    return folder


def logged(run, metric="train/loss"):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[metric] for row in rows if metric in row]


def stopped(folder, name):
    """A copy of the run as it was after step 14."""
    run = folder / name
    shutil.copytree(folder / "run", run)
    for file in [*run.glob("checkpoints/step-0000002*"), run / "checkpoints/last.ckpt", run / "checkpoints/best.ckpt"]:
        file.unlink(missing_ok=True)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    (run / "metrics.json").unlink()
    return run


def test_the_guide_shows_the_package():
    for file in (PACKAGE / "anchored.py", PACKAGE / "conf/objective/anchored.yaml"):
        assert file.read_text().partition('"""\n\n')[2].strip() or file.suffix == ".yaml"
        assert file.read_text().split('"""\n\n')[-1] in GUIDE


def test_the_reference_is_the_model_at_the_start(folder):
    checkpoints = folder / "run" / "checkpoints"
    start = torch.load(checkpoints / "reference.ckpt", weights_only=True)
    assert start["mmtx"]["step"] == 0
    built = library.build(["experiment=vit_digits", "objective=[classify]", *TINY])
    for name, value in built.learner.model.state_dict().items():
        assert start["state_dict"][f"learner.model.{name}"].equal(value), name
    last = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert last["state_dict"].keys() == start["state_dict"].keys(), "it is not in checkpoints"
    assert not any("reference" in name for name in last["average"])


def test_a_run_goes_on_bit_for_bit(folder):
    run = stopped(folder, "again")
    done = mmtx("resume", "again", "plugins=[anchored]", cwd=folder)
    assert done.returncode == 0 and "continues from step 14" in done.stdout, text_of(done)
    assert logged(run) == logged(folder / "run")
    one, other = (torch.load(r / "checkpoints/last.ckpt", weights_only=True) for r in (run, folder / "run"))
    assert all(one["state_dict"][name].equal(value) for name, value in other["state_dict"].items())


def test_without_its_reference_it_is_loaded_and_not_trained(folder):
    run = stopped(folder, "bare")
    (run / "checkpoints/reference.ckpt").rename(run / "reference.ckpt")
    for words in (["resume", "bare", "plugins=[anchored]"], ["evaluate", "bare", "split=val", "plugins=[anchored]"]):
        done = mmtx(*words, cwd=folder)
        assert done.returncode == 2 and "reference.ckpt is not there: anchored compares with it" in done.stderr, words
    shutil.copy(run / "checkpoints/step-00000014.ckpt", run / "checkpoints/reference.ckpt")
    done = mmtx("resume", "bare", "plugins=[anchored]", cwd=folder)
    assert done.returncode == 2 and "is not the one that this run has written" in done.stderr, text_of(done)


def test_it_is_evaluated_as_in_training(folder):
    done = mmtx("evaluate", "run", "plugins=[anchored]", cwd=folder)
    assert done.returncode == 0, text_of(done)
    trained = json.loads((folder / "run" / "metrics.json").read_text())
    for name, value in json.loads(done.stdout).items():
        assert trained[name] == pytest.approx(value, rel=1e-5), name


def test_packed_and_on_two_ranks_it_is_the_same_run(folder):
    two = ["trainer.devices=2", "trainer.accelerator=cpu", "loader.batch_size=8"]
    runs = {"one": [], "packed": ["loader.packing=true"], "ddp": two, "fsdp2": [*two, "trainer.strategy=fsdp2"]}
    for name, more in runs.items():
        done = mmtx("train", *RUN, *more, f"run_dir={name}", cwd=folder)
        assert done.returncode == 0, text_of(done)
        assert logged(folder / name) == pytest.approx(logged(folder / "one"), rel=1e-4), name
    distances = logged(folder / "one", "train/distance")
    assert distances[0] == 0 < distances[-1], "at the first step, the model is its reference"


@pytest.mark.slow
def test_compiled_it_is_the_same_run(folder):
    for name, more in {"plain": [], "compiled": ["backbone.compile=true"]}.items():
        done = mmtx("train", *RUN, *more, f"run_dir={name}", cwd=folder, timeout=600)
        assert done.returncode == 0, text_of(done)
    assert logged(folder / "compiled") == pytest.approx(logged(folder / "plain"), rel=1e-4)
