"""Metrics of slices of the data."""

from __future__ import annotations

import numpy
import pytest
import torch
from builders import batch_of
from sklearn.metrics import mean_absolute_error, r2_score
from test_regression import made, numbers, same_lengths, specs_of

from mmtx.batch import fake_batch
from mmtx.data.specs import class_spec
from mmtx.evaluate import Evaluation, stage_directions
from mmtx.learner import Learner
from mmtx.objectives.slices import Slices


def test_each_slice_has_the_metrics_of_its_samples_alone() -> None:
    """Of real samples only, over batches of which one lacks the name."""
    objective, whole = made("vector", slices=["speaker"])
    specs = specs_of("vector")
    batches = [same_lengths(fake_batch(specs, 8, seed)) for seed in range(3)]
    batches[0] = batches[0].without({"speaker": torch.arange(8) < 2})
    nameless = {name: fields for name, fields in batches[2].fields.items() if name != "speaker"}
    batches[2] = batch_of(nameless, {name: batches[2].lengths[name].tolist() for name in nameless})
    evaluation = Evaluation(Learner(model=whole, objectives={"regression": objective}, specs=specs), "val")
    evaluation.add("", batches)
    metrics = evaluation.metrics(0.0)
    for code, name in enumerate(("ann", "bob")):
        members = [(batch["speaker"]["class"] == code) & batch.present("speaker") for batch in batches[:2]]
        own = [batch.select(members[i].nonzero()[:, 0]) for i, batch in enumerate(batches[:2])]
        pairs = [numbers(objective, whole, batch) for batch in own]
        true, predicted = (numpy.concatenate(each) for each in zip(*pairs, strict=True))
        assert metrics[f"val/mae/speaker={name}"] == pytest.approx(mean_absolute_error(true, predicted))
        assert metrics[f"val/r2/speaker={name}"] == pytest.approx(r2_score(true, predicted))
    directions = stage_directions(evaluation._learner, "val", ["regression"])
    assert set(metrics) == set(directions)
    assert directions["val/mae/speaker=ann"] == "min" and directions["val/r2/speaker=bob"] == "max"


def test_a_slice_without_samples_has_no_metrics() -> None:
    objective, whole = made("scalar", slices=["speaker"])
    batch = fake_batch(specs_of("scalar"), 4)
    batch = batch.with_values("speaker", **{"class": torch.tensor([1, 1, 0, 0])})
    score = objective(whole, batch.without({"target": torch.tensor([False, False, True, True])}))
    assert {name for name in objective.metrics(score) if "=" in name} == {
        f"{metric}/speaker=bob" for metric in ("mae", "rmse", "r2")
    }


def test_names_of_classes_become_names_of_metrics() -> None:
    specs = {"place": class_spec(("New York", "new/york", "new york", "Zürich-2")), "kind": class_spec(("a", "b"))}
    directions = Slices(["place", "kind"], specs).directions({"mae": "min"})
    assert list(directions) == [
        "mae",
        "mae/place=New_York",
        "mae/place=new_york_1",
        "mae/place=new_york_2",
        "mae/place=Zürich-2",
        "mae/kind=a",
        "mae/kind=b",
    ]
