"""Pictures of digits with questions about them, and answers."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.image.digits import NAMES
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary


def _yes_or_no(answer: bool) -> str:
    return "yes" if answer else "no"


QUESTIONS: dict[str, Callable[[int], str]] = {
    "which digit?": lambda digit: NAMES[digit],
    "is it even?": lambda digit: _yes_or_no(digit % 2 == 0),
    "is it above four?": lambda digit: _yes_or_no(digit > 4),
}
"""Questions, and the answer for each digit."""


class AskedDigits(ItemSource):
    """Names: ``image``, ``question``, ``text`` (its answer), ``label`` (of the digit).

    Each picture comes with every question, so that an epoch has as many samples of each. Without pictures, the most
    frequent answers are right in 0.37 of the samples.

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        vocabulary: of questions and answers.
        augment: applied to training pictures, uint8 ``(C, H, W)``.
    """

    def __init__(self, *, pictures: Source, vocabulary: TextVocabulary, augment: Callable[[Tensor], Tensor]) -> None:
        self.vocabulary, self.augment = vocabulary, augment
        self._specs_of_pictures = pictures.specs
        splits = {"train": pictures.train(), "val": pictures.val(), "test": pictures.test()}
        self._pictures = {split: found for split, found in splits.items() if found is not None}
        self.items = {split: range(len(found) * len(QUESTIONS)) for split, found in self._pictures.items()}
        answers = [[answer(digit) for digit in range(len(NAMES))] for answer in QUESTIONS.values()]
        texts = [*QUESTIONS, *(answer for each in answers for answer in each)]
        self.fitted.vocabulary("text", vocabulary, texts, marks=True)
        self._questions = [torch.tensor(vocabulary.encode(question)) for question in QUESTIONS]
        self._answers = [[torch.tensor(vocabulary.encode_marked(answer)) for answer in each] for each in answers]

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": self._specs_of_pictures["image"],
            "question": text_spec(self.vocabulary, max(map(len, self._questions))),
            "text": text_spec(self.vocabulary, max(len(answer) for each in self._answers for answer in each)),
            "label": self._specs_of_pictures["label"],
        }

    def sample(self, item: int, split: str) -> Sample:
        index, question = divmod(item, len(QUESTIONS))
        picture = self._pictures[split][index]
        pixels, digit = picture["image"]["pixels"], int(picture["label"]["class"])
        return {
            "image": {"pixels": self.augment(pixels) if split == "train" else pixels},
            "question": {"ids": self._questions[question]},
            "text": {"ids": self._answers[question][digit]},
            "label": picture["label"],
        }
