"""Pictures with one class each, held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.stratified_split import hold_out
from mmtx.errors import InvalidValue

Pictures = tuple[UInt8[Tensor, "_ C H W"], Int64[Tensor, " _"]]
"""Pixels, and as many classes."""


class LabelledImages(Source):
    """Names: ``image``, ``label``. Validation is held out of the training part, stratified.

    Args:
        train: training pictures.
        test: test pictures, of the same size.
        class_names: in the order of the codes.
        augment: applied to training pictures, uint8 ``(C, H, W)``; None: none.
        num_val: validation pictures, held out of the training part; 0: none.
        split_seed: of the choice.
    """

    def __init__(
        self,
        *,
        train: Pictures,
        test: Pictures,
        class_names: tuple[str, ...],
        augment: Callable[[Tensor], Tensor] | None,
        num_val: int,
        split_seed: int,
    ) -> None:
        most = len(train[0]) - len(class_names)
        if not 0 <= num_val <= most:
            raise InvalidValue("num_val", num_val, f"must lie in 0..{most}: training needs a picture of every class")
        self._test, self._class_names, self._augment = test, class_names, augment
        kept, held = hold_out(train[1], num_val, split_seed)
        self._train = train[0][kept], train[1][kept]
        self._val = train[0][held], train[1][held]

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field(tuple(self._train[0].shape[1:]), torch.uint8)}),
            "label": Spec(
                {"class": Field((), torch.long, num_classes=len(self._class_names))}, class_names=self._class_names
            ),
        }

    def train(self) -> Split:
        return self._split(self._train, self._augment)

    def val(self) -> Split | None:
        return self._split(self._val, None) if len(self._val[0]) else None

    def test(self) -> Split:
        return self._split(self._test, None)

    def _split(self, pictures: Pictures, augment: Callable[[Tensor], Tensor] | None) -> Split:
        return Samples(len(pictures[0]), partial(_sample, *pictures, augment))


def _sample(pixels: Tensor, classes: Tensor, augment: Callable[[Tensor], Tensor] | None, i: int) -> Sample:
    picture = pixels[i].clone()  # an augmentation may work in place
    return {"image": {"pixels": augment(picture) if augment else picture}, "label": {"class": classes[i].clone()}}
