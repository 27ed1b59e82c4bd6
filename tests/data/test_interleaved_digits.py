"""Documents in which words and pictures of digits alternate."""

import re

import pytest
import torch
from contracts import check_source

from mmtx.data.image.digits import NAMES, Digits
from mmtx.data.multimodal.interleaved_digits import InterleavedDigits
from mmtx.data.text.vocabulary import Characters, Words
from mmtx.errors import InvalidValue

KEYS = {"phrasings": ["the digit {}"], "most_pictures": 3, "before": 0.5, "split_seed": 0}


def source(**changes):
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    own = {"augment": torch.nn.Identity(), "vocabulary": Characters()}
    return InterleavedDigits(**{"pictures": pictures, **own, **KEYS, **changes})


def test_contract():
    check_source(source())


def test_words_and_pictures_share_their_times():
    """Each moment has one of them, from 0 on, and a picture the one behind its mark."""
    made, counts = source(), set()
    (mark,) = made.vocabulary.encode("*")
    for split in (made.train(), made.test()):
        for sample in (split[i] for i in range(40)):
            text, image = sample["text"], sample["image"]
            moments = torch.cat([text["times"], image["times"]]).sort().values
            assert moments.tolist() == [*range(len(moments))]
            assert (text["times"][text["ids"] == mark] + 1).equal(image["times"])
            counts.add(len(image["times"]))
    assert counts == {1, 2, 3}


def test_captions_are_those_of_the_pictures_in_their_order():
    """Compared with the pictures' own labels, found again by their pixels."""
    made, digits = source(), Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0).test()
    labels = {digits[i]["image"]["pixels"].numpy().tobytes(): int(digits[i]["label"]["class"]) for i in range(360)}
    orders = set()
    for i in range(60):
        sample = made.test()[i]
        document = made.vocabulary.decode(sample["text"]["ids"].tolist())
        names = [NAMES[labels[pixels.numpy().tobytes()]] for pixels in sample["image"]["pixels"]]
        parts = re.findall(r"(\*?)the digit (\w+)(\*?)\. ", document)
        assert "".join(f"{a}the digit {name}{b}. " for a, name, b in parts) == document
        assert [name for _, name, _ in parts] == names
        assert all((first == "*") != (last == "*") for first, _, last in parts)
        orders |= {bool(first) for first, _, _ in parts}
        assert sample["image"]["pixels"][0].equal(digits[i]["image"]["pixels"])
    assert orders == {False, True}


def test_training_draws_documents_anew_and_the_test_does_not():
    made = source()
    for split, several in ((made.train(), True), (made.test(), False)):
        drawn = {tuple(split[0]["text"]["ids"].tolist()) for _ in range(10)}
        assert (len(drawn) > 1) == several
    assert source(augment=torch.zeros_like).train()[0]["image"]["pixels"].max() == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("phrasings", value) for value in ([], ["a digit"], ["{} {}"], ["{}*"])),
        *(("most_pictures", value) for value in (0, 17)),
        *(("before", value) for value in (-0.1, 1.5)),
    ],
)
def test_bad_values_are_named(key, value):
    with pytest.raises(InvalidValue, match=f"^{key}="):
        source(**{key: value})


def test_a_vocabulary_without_a_mark_of_its_own_is_refused():
    """Of words, as a mark and a word beside it are one."""
    with pytest.raises(InvalidValue, match=r"^vocabulary=Words has no id that stands for \* alone"):
        source(vocabulary=Words())
