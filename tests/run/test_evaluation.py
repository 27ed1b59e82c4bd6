"""What ``mmtx evaluate`` takes, and what it refuses: its numbers must be those of what was requested."""

import pytest
from run_cli import TINY, mmtx, text_of

from mmtx.commands.main import main
from mmtx.errors import UserError
from mmtx.run.evaluation import DEFAULTS, OF_METRICS, evaluate_run
from mmtx.training import devices


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    words = ["experiment=vit_digits", "run_dir=run", "logger=[]", "callbacks=[]", "trainer.max_steps=2", *TINY]
    done = mmtx("train", *words, cwd=folder)
    assert done.returncode == 0, text_of(done)
    return folder


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("spilt=val", "did you mean 'split'?"),
        ("drp=[image]", "did you mean 'drop'?"),
        ("backbone.dim=64", "backbone.dim=64 would be another model"),
        ("loader.batch_sizee=3", "did you mean 'batch_size'?"),
        ("loader.batch_size=0", "loader.batch_size=0 must be at least 1"),
        ("loader.num_workers=abc", "loader.num_workers=abc is not an integer"),
        ("data.batch_size=3", "data.batch_size=3 has moved; write loader.batch_size=3"),
        ("seed=abc", "seed=abc is not an integer"),
        ("split=tset", "split=tset is none of"),
        ("probe=colour", "probe=colour names no classes of this data beside the set; nearest: one of ['label']"),
    ],
)
def test_what_it_does_not_read_is_refused(folder, option, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "run", option]) == 2
    assert message in capsys.readouterr().err


def test_other_keys_of_the_data_are_taken(folder):
    done = mmtx("evaluate", "run", "split=val", "loader.eval_batch_size=7", cwd=folder)
    assert done.returncode == 0 and '"val/loss"' in done.stdout, text_of(done)


def test_probe(folder):
    """Of any run, beside its own metrics; of few labels, and of all."""
    options = {**DEFAULTS, **OF_METRICS, "probe": "label"}
    few, whole = (
        evaluate_run(str(folder / "run"), {**options, "probing": probing}, []) for probing in ({"labelled": 20}, None)
    )
    assert set(few) >= {"test/loss", "test/accuracy", "test/probe_accuracy", "test/neighbours_accuracy"}
    assert 0.2 < few["test/probe_accuracy"] < whole["test/probe_accuracy"], "chance is 0.1"
    assert 0.2 < few["test/neighbours_accuracy"] < whole["test/neighbours_accuracy"]
    with pytest.raises(UserError, match="probing.labeled=20 is no option; did you mean 'labelled'"):
        evaluate_run(str(folder / "run"), {**options, "probing": {"labeled": 20}}, [])


def test_it_computes_where_training_would(folder, monkeypatch):
    """On the device that ``trainer.accelerator=auto`` is, or the given one; that without memory has no numbers."""
    monkeypatch.setattr(devices, "device_type", lambda name: {"auto": "meta"}.get(name, name))
    with pytest.raises(RuntimeError, match="(?i)meta|unknown device type"):
        evaluate_run(str(folder / "run"), {**DEFAULTS, "split": "val"}, [])
    assert "val/loss" in evaluate_run(str(folder / "run"), {**DEFAULTS, "split": "val", "device": "cpu"}, [])
