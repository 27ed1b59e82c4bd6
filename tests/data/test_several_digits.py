"""Pictures of several digits."""

import pytest
import torch
from contracts import check_source
from sklearn.datasets import load_digits

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors, InvalidValue
from mmtx.experiment import construct_source


def source(*words):
    return construct_source(compose(["data=several_digits", "objective.classify.label=labels", *words]))


def test_contract():
    check_source(source())


def test_labels_are_the_digits_of_the_cells():
    made, digits = source(), load_digits()
    pairs = zip(digits.images, digits.target, strict=True)
    known = {tuple((pixels * 255 / 16).round().astype(int).flatten()): label for pixels, label in pairs}
    counts = []
    for i in range(60):
        sample = made.test()[i]
        cells = sample["image"]["pixels"].view(2, 8, 2, 8).permute(0, 2, 1, 3).reshape(4, 64)
        there = [known[tuple(cell.tolist())] for cell in cells if cell.any()]
        assert sample["labels"]["labels"].nonzero()[:, 0].tolist() == sorted(set(there))
        assert int(sample["count"]["class"]) == len(there)
        counts.append(len(there))
    assert set(counts) == {0, 1, 2, 3, 4}


def test_training_is_drawn_anew_and_the_test_is_not():
    made = source("data/augment=none")
    assert not torch.equal(made.train()[0]["image"]["pixels"], made.train()[0]["image"]["pixels"])
    assert torch.equal(made.test()[0]["image"]["pixels"], source().test()[0]["image"]["pixels"])
    assert source("data.cells=3", "data.empty=0").val()[0]["count"]["class"] == 9


@pytest.mark.parametrize("word", ["data.cells=0", "data.empty=1.0"])
def test_bad_keys_are_named(word):
    with pytest.raises((ConfigErrors, InvalidValue), match=word.partition("=")[0]):
        source(word)
