"""Which checkpoint a run goes on from, and when it does not."""

import re

import pytest

from mmtx.run.checkpoint_content import load
from mmtx.run.checkpoint_file import CheckpointError, link, write_checkpoint
from mmtx.run.directory import RunDirectory
from mmtx.run.resume import differences, find_checkpoint


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.create()
    for step in (2, 4, 6):
        write_checkpoint(run.checkpoints / f"step-{step:08d}.ckpt", {"step": step})
    link(run.checkpoints / "step-00000006.ckpt", run.last)
    link(run.checkpoints / "step-00000002.ckpt", run.best)
    run.note_checkpoint(6)
    return run


def damage(file):
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(content)


def test_the_newest_valid_one_is_taken_and_the_others_are_named(run, capfd):
    assert find_checkpoint(run).name == "step-00000006.ckpt"
    (run.checkpoints / ".step-00000008.ckpt.partial").write_text("half")
    damage(run.last)  # which is step 6 by another name
    damage(run.checkpoints / "step-00000004.ckpt")
    assert find_checkpoint(run).name == "step-00000002.ckpt"
    warnings = capfd.readouterr().err
    assert re.findall(r"step-0000000\d", warnings) == ["step-00000006", "step-00000004"]
    assert sorted(file.name for file in run.checkpoints.glob("*.invalid")) == [
        "step-00000004.ckpt.invalid",
        "step-00000006.ckpt.invalid",
    ]
    assert not list(run.checkpoints.glob("*.partial")) and not list(run.checkpoints.glob(".*.partial"))


def test_one_that_is_named_is_refused_and_no_other_is_taken(run):
    damage(run.step_files()[0])
    for place in (run.step_files()[0], run.last, run.path):
        with pytest.raises(CheckpointError, match="step-00000006|last.*sha256 differs"):
            load(place)


@pytest.mark.parametrize("how", ["damaged", "removed"])
def test_a_run_that_saved_never_starts_from_the_beginning(how, run):
    run.last.unlink()
    run.best.unlink()
    for file in run.step_files():
        damage(file) if how == "damaged" else file.unlink()
    with pytest.raises(CheckpointError, match="saved step 6, and no checkpoint in it is valid"):
        find_checkpoint(run)


def test_a_run_that_never_saved_has_none(tmp_path):
    run = RunDirectory(tmp_path)
    run.create()
    assert find_checkpoint(run) is None


def test_every_difference_is_listed():
    saved = {
        "config": {"backbone": {"dim": 64}, "trainer": {"devices": 1}, "seed": 0, "logger": {}},
        "specs": {"text": {"vocabulary": {"state": {"size": 5}}}},
        "fingerprint": {"train": {"samples": 10, "hash_of_some": "ab"}},
    }
    now = {
        "config": {"backbone": {"dim": 128}, "trainer": {"devices": 4}, "seed": 1, "logger": {"wandb": {"a": 1}}},
        "specs": {"text": {"vocabulary": {"state": {"size": 6}}}},
        "fingerprint": {"train": {"samples": 11, "hash_of_some": "cd"}},
    }
    assert list(differences(saved, now)) == [
        "backbone.dim: checkpoint 64, now 128",
        "seed: checkpoint 0, now 1",
        "data text.vocabulary.state.size: checkpoint 5, now 6",
        'data train.hash_of_some: checkpoint "ab", now "cd"',
        "data train.samples: checkpoint 10, now 11",
    ]
    assert list(differences(saved, saved)) == []
