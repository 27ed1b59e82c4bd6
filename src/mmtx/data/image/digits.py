"""scikit-learn's scanned digits: 1,797 pictures of 8 x 8 pixels, shipped with its wheel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import check_within

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(Source):
    """Names: ``image`` (8 x 8), ``text`` (the digit's English name), ``label``.

    1,437 pictures are for training and 360 for the test, stratified by class; `num_val` of the former are for
    validation.

    Args:
        vocabulary: of the names.
        augment: applied to training pictures, uint8 ``(1, 8, 8)``.
        num_val: validation pictures, held out of the training part.
        split_seed: of the splits.
    """

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        augment: Callable[[Tensor], Tensor] | None,
        num_val: int,
        split_seed: int,
    ) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        check_within("num_val", num_val, 10, 1000)
        bunch = load_digits()
        self._pixels = (torch.tensor(bunch.images) * 255 / 16).round().to(torch.uint8)[:, None]
        self._classes = torch.tensor(bunch.target)
        self.vocabulary, self.augment = vocabulary, augment
        self.fitted.vocabulary("text", vocabulary, NAMES, marks=True)
        self._names = [torch.tensor(vocabulary.encode_marked(name)) for name in NAMES]

        def split(index, test_size):
            stratify = bunch.target[index]
            return train_test_split(index, test_size=test_size, stratify=stratify, random_state=split_seed)

        rest, self._test = split(range(len(self._classes)), 360)
        self._train, self._val = split(rest, num_val)

    @property
    def specs(self) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, num_classes=self.vocabulary.size, max_length=max(map(len, self._names)))
        return {
            "image": Spec({"pixels": Field((1, 8, 8), torch.uint8)}),
            "text": Spec({"ids": ids}, vocabulary=self.vocabulary),
            "label": Spec({"class": Field((), torch.long, num_classes=10)}, class_names=NAMES),
        }

    def train(self) -> Split:
        return self._split(self._train, self.augment)

    def val(self) -> Split:
        return self._split(self._val, None)

    def test(self) -> Split:
        return self._split(self._test, None)

    def _split(self, index: list[int], augment: Callable[[Tensor], Tensor] | None) -> Split:
        return Samples(len(index), partial(self._sample, index, augment))

    def _sample(self, index: list[int], augment: Callable[[Tensor], Tensor] | None, i: int) -> Sample:
        pixels, label = self._pixels[index[i]].clone(), self._classes[index[i]]
        return {
            "image": {"pixels": augment(pixels) if augment else pixels},
            "text": {"ids": self._names[int(label)]},
            "label": {"class": label},
        }
