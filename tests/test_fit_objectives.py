"""What objectives fit to the training part is of the run: built, trained, saved, resumed and evaluated with it."""

import json

import numpy
import pytest
import torch
from run_cli import mmtx, text_of
from sklearn.utils.class_weight import compute_class_weight

import mmtx as package
from mmtx.config.compose import compose
from mmtx.experiment import assemble, fit_objectives

WORDS = ["experiment=regress_diabetes", "backbone.dim=24", "backbone.num_layers=1", "loader.eval_batch_size=30"]


def targets(source):
    return torch.stack([source.train()[i]["target"]["values"] for i in range(len(source.train()))]).double()


def test_the_scale_is_that_of_the_training_part_and_draws_nothing_at_random():
    config = compose(WORDS)
    experiment = assemble(config)
    before = torch.get_rng_state()
    fit_objectives(experiment.learner, config, experiment.data.source)
    assert torch.equal(torch.get_rng_state(), before)
    scale, wanted = experiment.learner.objective("regression").scale, targets(experiment.data.source)
    torch.testing.assert_close(scale.mean[0], wanted.mean())
    torch.testing.assert_close(scale.deviation[0], wanted.std(correction=0))
    assert torch.equal(package.build(WORDS).learner.objective("regression").scale.mean, scale.mean)


def test_classes_are_balanced_by_the_training_part_of_a_mixture_too():
    words = ["data=mixture", "+data@data.parts.a=digits", "+data@data.parts.b=digits", "data.parts.b.num_val=700"]
    experiment = package.build([*words, "objective.classify.class_weights=balanced", "backbone.dim=24"])
    splits = [part.train() for part in experiment.data.source.parts.values()]
    labels = [int(split[i]["label"]["class"]) for split in splits for i in range(len(split))]
    expected = compute_class_weight("balanced", classes=numpy.arange(10), y=labels)
    found = experiment.learner.objective("classify").class_weights
    assert found.tolist() == pytest.approx(expected.tolist())


def test_a_run_keeps_what_it_fitted(tmp_path):
    """Evaluated again, on other data as well, and resumed, all by the scale of its first data."""
    words = [*WORDS, "logger=[]", "log_every_steps=1", "trainer.max_epochs=null", "trainer.max_steps=4"]
    words += ["trainer.val_every_steps=2", "checkpoint.every_steps=2", "run_dir=run"]
    done = mmtx("train", *words, cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    file = tmp_path / "run" / "metrics.json"
    metrics = json.loads(file.read_text())
    assert {"test/mae", "test/rmse", "test/r2", "test/r2/sex=1"} <= set(metrics) and "train/r2/sex=1" not in metrics
    assert (tmp_path / "run" / "samples" / "regression_plot_step000004.png").is_file()
    again = mmtx("evaluate", "run", cwd=tmp_path)
    found = json.loads(again.stdout)
    assert found == {name: metrics[name] for name in found} and "test/r2/sex=2" in found
    loaded = package.load(tmp_path / "run").objective("regression").scale.mean
    assert 140 < float(loaded[0]) < 165
    other = mmtx("evaluate", "run", "data.split_seed=1", "split=val", cwd=tmp_path)
    assert other.returncode == 0 and json.loads(other.stdout)["val/mae"] > 1, text_of(other)
    for name in ("last", "best", "step-00000004"):
        (tmp_path / "run" / "checkpoints" / f"{name}.ckpt").unlink()
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "interrupted"}))
    file.unlink()
    resumed = mmtx("resume", "run", cwd=tmp_path)
    assert resumed.returncode == 0, text_of(resumed)
    theirs = json.loads(file.read_text())
    assert {name: theirs[name] for name in found} == found
