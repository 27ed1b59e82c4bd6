"""What a program is that makes samples: texts with a class, or texts of which a part is to be written."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch

from mmtx.batch import Sample, Spec
from mmtx.data.specs import class_spec, conversation_spec, scratched_spec, text_spec
from mmtx.data.text.vocabulary import Characters, Symbols

ANSWER = "="
"""The character before what is to be written."""

SCRATCH_END = ">"
"""The character between a scratchpad and the answer."""


class Task(ABC):
    """A program that makes samples of given lengths; `mmtx.data.Algorithmic` makes a dataset of one."""

    @abstractmethod
    def specs(self, longest: int) -> Mapping[str, Spec]:
        """What a sample may hold, by name, of this length or less."""

    @abstractmethod
    def draw(self, drawn: random.Random, length: int) -> Sample:
        """A sample of this length, which is whatever the task counts.

        Raises:
            UserError: the task has none of this length.
        """


class LabelledTask(Task):
    """Names: ``text``, ``label``: a text of as many symbols as its length, and its class.

    Args:
        vocabulary: of the text.
        symbols: a text of all that there are.
        classes: names, in the order of their codes.
    """

    def __init__(self, vocabulary: Symbols, symbols: str, classes: tuple[str, ...]) -> None:
        vocabulary.fit([symbols], marks=False)
        self.vocabulary, self.classes = vocabulary, classes

    @abstractmethod
    def example(self, drawn: random.Random, length: int) -> tuple[str, int]:
        """A text of this length, and the code of its class."""

    def specs(self, longest: int) -> Mapping[str, Spec]:
        return {"text": text_spec(self.vocabulary, longest), "label": class_spec(self.classes)}

    def draw(self, drawn: random.Random, length: int) -> Sample:
        text, code = self.example(drawn, length)
        return {"text": {"ids": torch.tensor(self.vocabulary.encode(text))}, "label": {"class": torch.tensor(code)}}


class WrittenTask(Task):
    """Name: ``text``, with ``ids`` and ``predicted``: what is given, `ANSWER`, and what is to be written, which is
    predicted with the mark that ends the text. It is written exactly if every predicted id is the best one.

    With a scratchpad there is a third field, ``scored``. What is written begins with scratch then, up to `SCRATCH_END`:
    that is predicted too, and what follows from that character on is scored.

    Args:
        symbols: a text of all characters of the task.
        scratchpad: what is written begins with one.
    """

    def __init__(self, symbols: str, *, scratchpad: bool = False) -> None:
        self.vocabulary, self.has_scratch = Characters(), scratchpad
        self.vocabulary.fit([symbols, ANSWER, *[SCRATCH_END] * scratchpad], marks=True)

    @abstractmethod
    def example(self, drawn: random.Random, length: int) -> tuple[str, str]:
        """What is given, of this length, and what is to be written."""

    @abstractmethod
    def most(self, length: int) -> int:
        """Characters of the longest example of a length, given and written."""

    def specs(self, longest: int) -> Mapping[str, Spec]:
        most = self.most(longest) + len(ANSWER) + 2
        return {"text": (scratched_spec if self.has_scratch else conversation_spec)(self.vocabulary, most)}

    def draw(self, drawn: random.Random, length: int) -> Sample:
        given, written = self.example(drawn, length)
        ids = torch.tensor(self.vocabulary.encode_marked(given + ANSWER + written))
        first, places = 1 + len(given) + len(ANSWER), torch.arange(len(ids))
        text = {"ids": ids, "predicted": places >= first}
        if self.has_scratch:
            text["scored"] = places >= first + written.index(SCRATCH_END)
        return {"text": text}
