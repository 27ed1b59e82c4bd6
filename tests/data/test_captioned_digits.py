"""Pictures of digits with captions."""

import pytest
import torch
from contracts import check_source

from mmtx.data.image.digits import NAMES, Digits
from mmtx.data.multimodal.captioned_digits import CaptionedDigits
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue

PHRASINGS = ["the digit {}", "{} it is"]


def source(**changes):
    keys = {"augment": torch.nn.Identity(), "phrasings": PHRASINGS, "split_seed": 0, "vocabulary": Characters()}
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    return CaptionedDigits(**{"pictures": pictures, **keys, **changes})


def captions(digit):
    return [phrasing.replace("{}", NAMES[digit]) for phrasing in PHRASINGS]


def test_contract():
    check_source(source())


def test_captions_name_the_digit_and_all_that_are_right_are_listed():
    made = source()
    vocabulary = made.specs["text"].vocabulary
    seen = set()
    for split in (made.train(), made.val(), made.test()):
        for i in range(40):
            sample = split[i]
            digit, ids = int(sample["label"]["class"]), sample["text"]["ids"].tolist()
            assert (ids[0], ids[-1]) == (vocabulary.begin, vocabulary.end)
            assert vocabulary.decode(ids) in captions(digit)
            seen.add(captions(digit).index(vocabulary.decode(ids)))
            parts, references = [[]], sample["references"]["ids"].tolist()
            for each in references:
                parts[-1].append(each)
                if each == vocabulary.end:
                    parts.append([])
            assert [vocabulary.decode(part) for part in parts[:-1]] == captions(digit) and not parts[-1]
    assert seen == {0, 1}


def test_training_draws_phrasings_anew_and_the_test_does_not():
    made = source()
    for split, phrasings in ((made.train(), 2), (made.test(), 1)):
        assert len({tuple(split[0]["text"]["ids"].tolist()) for _ in range(20)}) == phrasings


def test_only_training_is_augmented():
    made = source(augment=torch.zeros_like)
    assert made.train()[0]["image"]["pixels"].max() == 0 < made.test()[0]["image"]["pixels"].max()


@pytest.mark.parametrize("phrasings", [[], ["a digit"], ["{} {}"]])
def test_bad_phrasings_are_named(phrasings):
    with pytest.raises(InvalidValue, match="^phrasings="):
        source(phrasings=phrasings)


def test_some_captions_stand_before_their_pictures():
    """About the share that was asked for, in training and the test, and each sample has one caption."""
    made = source(before=0.5)
    check_source(made)
    vocabulary = made.specs["before"].vocabulary
    for split in (made.train(), made.test()):
        samples = [split[i] for i in range(200)]
        before = [sample for sample in samples if "before" in sample]
        assert 70 < len(before) < 130
        assert all(("text" in sample) != ("before" in sample) for sample in samples)
        assert {vocabulary.decode(each["before"]["ids"].tolist()) for each in before} <= {
            caption for digit in range(10) for caption in captions(digit)
        }
    assert "before" not in source().specs


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_captions_before_is_one(share):
    with pytest.raises(InvalidValue, match="^before="):
        source(before=share)
