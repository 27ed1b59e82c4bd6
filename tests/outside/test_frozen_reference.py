"""An objective from outside that compares with the model at the start of the run, as docs/extending.md shows it."""

import json
import shutil

import pytest
import torch
from packages import SPELL, half_of, logged, plugin, train, unpack
from run_cli import mmtx, text_of

import mmtx as library

LAB = plugin("frozen_reference")
RUN = [*train("frozen_reference"), "checkpoint.every_steps=7", "checkpoint.keep=9"]
NOISE = ["optim.ema_decay=0.9", "backbone.dropout=0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package, and a run of it of 20 steps."""
    folder = unpack("frozen_reference", tmp_path_factory.mktemp("outside"))
    done = mmtx(*RUN, *NOISE, "run_dir=run", cwd=folder)
    assert done.returncode == 0, text_of(done)
    return folder


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


@pytest.mark.slow
def test_the_reference_is_the_model_at_the_start(folder):
    checkpoints = folder / "run" / "checkpoints"
    start = torch.load(checkpoints / "reference.ckpt", weights_only=True)
    assert start["mmtx"]["step"] == 0
    built = library.build([*SPELL, "objective=[classify]"])
    for name, value in built.learner.model.state_dict().items():
        assert start["state_dict"][f"learner.model.{name}"].equal(value), name
    last = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert last["state_dict"].keys() == start["state_dict"].keys(), "it is not in checkpoints"
    assert not any("reference" in name for name in last["average"])


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(folder):
    run = stopped(folder, "again")
    done = mmtx("resume", "again", *LAB, cwd=folder)
    assert done.returncode == 0 and "continues from step 14" in done.stdout, text_of(done)
    assert logged(run) == logged(folder / "run")
    one, other = (torch.load(r / "checkpoints/last.ckpt", weights_only=True) for r in (run, folder / "run"))
    assert all(one["state_dict"][name].equal(value) for name, value in other["state_dict"].items())


@pytest.mark.slow
def test_without_its_reference_it_is_loaded_and_not_trained(folder):
    run = stopped(folder, "bare")
    (run / "checkpoints/reference.ckpt").rename(run / "reference.ckpt")
    for words in (["resume", "bare", *LAB], ["evaluate", "bare", "split=val", *LAB]):
        done = mmtx(*words, cwd=folder)
        assert done.returncode == 2 and "reference.ckpt is not there: anchored compares with it" in done.stderr, words
    shutil.copy(run / "checkpoints/step-00000014.ckpt", run / "checkpoints/reference.ckpt")
    done = mmtx("resume", "bare", *LAB, cwd=folder)
    assert done.returncode == 2 and "is not the one that this run has written" in done.stderr, text_of(done)


@pytest.mark.slow
def test_it_is_evaluated_as_in_training(folder):
    done = mmtx("evaluate", "run", *LAB, cwd=folder)
    assert done.returncode == 0, text_of(done)
    trained = json.loads((folder / "run" / "metrics.json").read_text())
    for name, value in json.loads(done.stdout).items():
        assert trained[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
def test_on_two_ranks_it_is_whole(folder):
    """Also where weights are shards."""
    shards = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=fsdp2", *half_of("frozen_reference")]
    for name, more in {"one": [], "fsdp2": shards}.items():
        done = mmtx(*RUN, *more, f"run_dir={name}", cwd=folder)
        assert done.returncode == 0, text_of(done)
        assert logged(folder / name) == pytest.approx(logged(folder / "one"), rel=1e-4), name
    distances = logged(folder / "one", "train/distance")
    assert distances[0] == 0 < distances[-1], "at the first step, the model is its reference"
