"""Pictures and recordings of digits with questions about them."""

import torch
from contracts import check_source

from mmtx.batch import Field, Spec
from mmtx.data.base import Samples, Source
from mmtx.data.image.digits import NAMES, Digits
from mmtx.data.multimodal.asked_digits import AskedDigits
from mmtx.data.multimodal.asked_voices import AskedVoices
from mmtx.data.text.vocabulary import Characters


def source():
    pictures = Digits(vocabulary=Characters(), augment=None, num_val=144, split_seed=0)
    return AskedDigits(pictures=pictures, vocabulary=Characters(), augment=torch.nn.Identity())


def test_contract():
    check_source(source())


class Voices(Source):
    """Two clips of each digit, and who speaks."""

    def __init__(self):
        self.specs_of_clips = {
            "audio": Spec({"waveform": Field((None,), torch.float32, max_length=30)}, sample_rate_hz=8000),
            "text": Spec({"ids": Field((None,), torch.long, 7, 5)}),
            "label": Spec({"class": Field((), torch.long, 10)}, class_names=NAMES),
            "speaker": Spec({"class": Field((), torch.long, 2)}, class_names=("ann", "bob")),
        }

    @property
    def specs(self):
        return self.specs_of_clips

    def train(self):
        def clip(i):
            return {
                "audio": {"waveform": torch.full((10 + i,), i / 20)},
                "text": {"ids": torch.tensor([i % 7])},
                "label": {"class": torch.tensor(i // 2)},
                "speaker": {"class": torch.tensor(i % 2)},
            }

        return Samples(20, clip)

    def val(self):
        return None

    def test(self):
        return None


def test_every_recording_is_asked_every_question():
    """Its own text gives way to the answer; sound, digit and speaker stay."""
    made = AskedVoices(voices=Voices(), vocabulary=Characters())
    check_source(made)
    vocabulary, train = made.specs["text"].vocabulary, made.train()
    assert [*made.specs] == ["audio", "text", "label", "speaker", "question"] and len(train) == 60
    for i, sample in enumerate(train[i] for i in range(60)):
        digit = i // 6
        answers = [NAMES[digit], "yes" if digit % 2 == 0 else "no", "yes" if digit >= 5 else "no"]
        assert vocabulary.decode(sample["text"]["ids"].tolist()) == answers[i % 3]
        assert len(sample["audio"]["waveform"]) == 10 + i // 3
        assert (int(sample["label"]["class"]), int(sample["speaker"]["class"])) == (digit, i // 3 % 2)
    assert made.val() is None and made.test() is None


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
