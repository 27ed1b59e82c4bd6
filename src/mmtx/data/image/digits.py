"""scikit-learn's scanned digits: 1,797 pictures of 8 x 8 pixels, shipped with its wheel."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.specs import class_spec, text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import check_within

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(ItemSource):
    """Names: ``image`` (8 x 8), ``text`` (the digit's English name), ``label``.

    1,437 pictures are for training and 360 for the test, stratified by class; `num_val` of the former are for
    validation.

    Args:
        vocabulary: of the names.
        augment: applied to training pictures, uint8 ``(1, 8, 8)``.
        num_val: validation pictures, held out of the training part.
        split_seed: of the splits.
        num_train: so many of the training pictures alone, stratified by class; None: all.
    """

    license = "cc-by-4.0"

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        augment: Callable[[Tensor], Tensor] | None,
        num_val: int,
        split_seed: int,
        num_train: int | None = None,  # absent in stored configs of earlier versions
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

        rest, test = split(range(len(self._classes)), 360)
        train, val = split(rest, num_val)
        if num_train is not None:
            check_within("num_train", num_train, 10, len(train) - 10)
            _, train = split(train, num_train)
        self.items = {"train": train, "val": val, "test": test}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field((1, 8, 8), torch.uint8)}),
            "text": text_spec(self.vocabulary, max(map(len, self._names))),
            "label": class_spec(NAMES),
        }

    def sample(self, item: int, split: str) -> Sample:
        pixels, label = self._pixels[item].clone(), self._classes[item]
        augment = self.augment if split == "train" else None
        return {
            "image": {"pixels": augment(pixels) if augment else pixels},
            "text": {"ids": self._names[int(label)]},
            "label": {"class": label},
        }
