"""Questions about digits, in pictures or sounds, and answers."""

from collections.abc import Callable, Mapping

import torch

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


class Asked(ItemSource):
    """Names: those of the digits, with ``question`` and ``text`` (its answer) in place of their own text.

    Each digit comes with every question, so that an epoch has as many samples of each. Without the digits, the most
    frequent answers are right in 0.37 of the samples.

    Args:
        digits: dataset with ``label``, the digit.
        vocabulary: of questions and answers.
    """

    def __init__(self, *, digits: Source, vocabulary: TextVocabulary) -> None:
        self.vocabulary, self._specs_of_digits = vocabulary, digits.specs
        splits = {"train": digits.train(), "val": digits.val(), "test": digits.test()}
        self._digits = {split: found for split, found in splits.items() if found is not None}
        self.items = {split: range(len(found) * len(QUESTIONS)) for split, found in self._digits.items()}
        answers = [[answer(digit) for digit in range(len(NAMES))] for answer in QUESTIONS.values()]
        texts = [*QUESTIONS, *(answer for each in answers for answer in each)]
        self.fitted.vocabulary("text", vocabulary, texts, marks=True)
        self._questions = [torch.tensor(vocabulary.encode(question)) for question in QUESTIONS]
        self._answers = [[torch.tensor(vocabulary.encode_marked(answer)) for answer in each] for each in answers]

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            **self._specs_of_digits,
            "question": text_spec(self.vocabulary, max(map(len, self._questions))),
            "text": text_spec(self.vocabulary, max(len(answer) for each in self._answers for answer in each)),
        }

    def sample(self, item: int, split: str) -> Sample:
        index, question = divmod(item, len(QUESTIONS))
        digit = self._digits[split][index]
        answer = self._answers[question][int(digit["label"]["class"])]
        return {**digit, "question": {"ids": self._questions[question]}, "text": {"ids": answer}}
