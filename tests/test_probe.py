"""What is read off features: by loops, by what is known of the data, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from four_names import FourNames
from learners import made_learner

from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.probe import Features, Reading, check_label, linear_accuracy, neighbours_accuracy, probe_features

RNG = numpy.random.default_rng(0)


def loaded(source: FourNames) -> tuple[Learner, DataModule]:
    learner = made_learner("classify").eval()
    keys: dict[str, Any] = {
        "seed": 0,
        "batch_size": 4,
        "eval_batch_size": 7,
        "num_workers": 0,
        "packing": False,
        "on_bad_sample": "raise",
        "max_bad_share": 0.0,
    }
    return learner, DataModule(source=source, names=[*learner.model.names, "label"], **keys)


def test_features_are_means_of_hidden_states() -> None:
    """Sample by sample, alone in its batch; those without the name or the label are left out."""
    source = FourNames(num_samples=12)
    learner, data = loaded(source)
    found = Reading(learner, "label", ["image"], "mean").features(data, "train")
    expected, classes = [], []
    (loader,) = data.eval_loaders("train", rank=0, num_ranks=1).values()
    for batch in (batch for batches in loader for batch in batches):
        for index in range(len(batch)):
            alone = batch.select(slice(index, index + 1))
            if alone.lengths["image"] and alone.lengths["label"]:
                with torch.no_grad():
                    expected.append(learner.model(alone).tokens("image")[0].mean(0).numpy())
                classes.append(int(alone["label"]["class"]))
    assert 0 < len(expected) < 12
    numpy.testing.assert_allclose(found.vectors, numpy.stack(expected), atol=1e-5)
    assert found.classes.tolist() == classes


def test_neighbours_by_loops() -> None:
    train = Features(RNG.normal(size=(30, 4)), RNG.integers(0, 2, 30))
    given = Features(RNG.normal(size=(20, 4)), RNG.integers(0, 2, 20))
    right = 0
    for vector, truth in zip(given.vectors, given.classes, strict=True):
        cosines = [vector @ v / numpy.linalg.norm(vector) / numpy.linalg.norm(v) for v in train.vectors]
        votes = train.classes[numpy.argsort(cosines)[-5:]]
        right += int((votes.sum() > 2.5) == truth)
    assert neighbours_accuracy(train, given, 5) == pytest.approx(right / 20)


def test_linear_probe_of_known_data() -> None:
    """All right where a line parts the classes, whatever the scale of each feature; chance where nothing does."""
    vectors, scales = RNG.normal(size=(400, 3)), numpy.array([1e-3, 1.0, 1e3])
    classes = (vectors @ [1.0, -1.0, 0.5] > 0).astype(numpy.int64)
    halves = slice(0, 200), slice(200, 400)
    train, given = (Features(vectors[half] * scales, classes[half]) for half in halves)
    assert linear_accuracy(train, given) > 0.97
    train, given = (Features(vectors[half], RNG.integers(0, 2, 200)) for half in halves)
    assert abs(linear_accuracy(train, given) - 0.5) < 0.15


def test_metrics_and_refusals() -> None:
    learner, data = loaded(FourNames(num_samples=30))
    metrics = probe_features(learner, data, "val", "label", names=["image", "text"], labelled=12)
    assert set(metrics) == {"probe_accuracy", "neighbours_accuracy"}
    assert all(0 <= value <= 1 for value in metrics.values())
    for options, message in (
        ({"names": ["picture"]}, r"probing.names=\['picture'\] names picture"),
        ({"pool": "summary"}, "probing.pool=summary is a token that '.*' does not have"),
        ({"labelled": 1000}, r"probing.labelled=1000 must lie in 1\.\."),
        ({"neighbours": 0}, "probing.neighbours=0 must be at least 1"),
        ({"labelled": 1}, "needs labels in split=val, and of two classes"),
    ):
        with pytest.raises(UserError, match=message):
            probe_features(learner, data, "val", "label", **options)
    specs = dict(FourNames(num_samples=2).specs)
    for label in ("colour", "text", "state"):
        with pytest.raises(InvalidValue, match=rf"probe={label} names no classes of this data beside the set"):
            check_label(label, learner, specs)
