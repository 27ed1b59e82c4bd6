"""Pictures with labels dealt anew: classes and maps of each prompt, estimators against scikit-learn, refusals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy
import pytest
import torch
from contracts import check_source
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from mmtx.batch import Sample
from mmtx.data.algorithmic.few_shot import FewShot
from mmtx.data.algorithmic.nearest import nearest_mean, nearest_neighbour
from mmtx.data.image.digits import Digits
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import UserError


@cache
def digits() -> Digits:
    return Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)


def made(**changes: Any) -> FewShot:
    keys = {"pictures": digits(), "ways": 3, "shots": 2, "pixel_map": "permutation", "held_out": 4, "split_seed": 0}
    return FewShot(**{**keys, "num_train": 30, "num_val": 10, "num_test": 10, **changes})


@pytest.mark.parametrize("pixel_map", ["projection", "permutation"])
def test_contract(pixel_map: str) -> None:
    check_source(made(pixel_map=pixel_map))


def known(split: str, classes: range) -> dict[tuple[float, ...], int]:
    """Classes by the pixels of a picture, sorted, which no permutation changes."""
    own = getattr(digits(), split)()
    samples = [own[index] for index in range(len(own))]
    found = {}
    for sample in samples:
        pixels = sample["image"]["pixels"].flatten().double()
        scaled = (pixels - pixels.mean()) / pixels.std(correction=0)
        found[tuple(scaled.sort().values.mul(1000).round().tolist())] = int(sample["label"]["class"])
    return {key: label for key, label in found.items() if label in classes}


@pytest.mark.parametrize(("split", "classes"), [("train", range(6)), ("val", range(6)), ("test", range(6, 10))])
def test_a_prompt_has_pictures_of_its_split_and_classes_with_labels_of_its_own(split: str, classes: range) -> None:
    pictures, dealt = known(split, classes), set()
    prompts = getattr(made(), split)()
    for index in range(10):
        sample: Sample = prompts[index]
        labels = sample["y"]["class"].tolist()
        assert sorted(labels[:6]) == [0, 0, 1, 1, 2, 2]
        rows = [tuple(row.double().sort().values.mul(1000).round().tolist()) for row in sample["x"]["values"]]
        assert len(set(rows)) == 7, "no picture comes twice in a prompt"
        pairs = {(label, pictures[row]) for label, row in zip(labels, rows, strict=True)}
        assert len(pairs) == 3 == len({digit for _, digit in pairs})
        dealt |= pairs
    assert len(dealt) > 6, "a digit has other labels in other prompts"


def test_projections_keep_products_on_average() -> None:
    """Of independent normal numbers of variance 1/64: the squared length of a picture stays 64 in the mean."""
    train = made(pixel_map="projection", num_train=200).train()
    lengths = torch.stack([train[index]["x"]["values"][0].square().sum() for index in range(200)])
    assert float(lengths.mean()) == pytest.approx(64, abs=4 * 64 * (2 / 64 / 200) ** 0.5)


def test_nearest_means_and_neighbours_are_those_of_scikit_learn() -> None:
    generator = numpy.random.default_rng(0)
    x, y = generator.normal(size=(5, 9, 4)), generator.integers(0, 3, (5, 9))
    means = nearest_mean(torch.tensor(x), torch.tensor(y), 3)
    neighbours = nearest_neighbour(torch.tensor(x), torch.tensor(y))
    assert not means[:, 0].any() and not neighbours[:, 0].any()
    for row in range(5):
        for step in range(1, 9):
            given, labels, query = x[row, :step], y[row, :step], x[row, step : step + 1]
            assert int(neighbours[row, step]) == KNeighborsClassifier(1).fit(given, labels).predict(query)[0]
            if len(set(labels)) > 1:  # scikit-learn needs two classes
                assert int(means[row, step]) == NearestCentroid().fit(given, labels).predict(query)[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ways": 1}, "ways=1 must be at least 2"),
        ({"shots": 0}, "shots=0 must be at least 1"),
        ({"held_out": 2}, "held_out=2 leaves less than ways=3 of 10 classes.*nearest: 3 to 7"),
        ({"ways": 6, "held_out": 5}, "held_out=5 leaves less than ways=6 of 10 classes"),
        ({"shots": 40}, "shots=40 and one more are more than the 14 pictures of a validation class"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        made(**changes)
