"""Pictures of digits with questions about them."""

import torch
from contracts import check_source

from mmtx.data.image.digits import NAMES, Digits
from mmtx.data.multimodal.asked_digits import AskedDigits
from mmtx.data.text.vocabulary import Characters


def source():
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    return AskedDigits(pictures=pictures, vocabulary=Characters(), augment=torch.nn.Identity())


def test_contract():
    check_source(source())


def test_every_picture_is_asked_every_question():
    made = source()
    vocabulary, val = made.specs["text"].vocabulary, made.val()
    assert len(val) == 3 * 144
    for i in range(60):
        sample = val[i]
        digit, answer = int(sample["label"]["class"]), vocabulary.decode(sample["text"]["ids"].tolist())
        question = vocabulary.decode(sample["question"]["ids"].tolist())
        right = {
            "which digit?": NAMES[digit],
            "is it even?": "yes" if digit in (0, 2, 4, 6, 8) else "no",
            "is it above four?": "yes" if digit in (5, 6, 7, 8, 9) else "no",
        }
        assert (question, answer) == ([*right][i % 3], right[question])
        assert torch.equal(sample["image"]["pixels"], val[i - i % 3]["image"]["pixels"])
