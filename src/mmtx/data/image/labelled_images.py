"""Pictures with one class each, held in memory."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.specs import class_spec
from mmtx.data.stratified_split import hold_out
from mmtx.errors import InvalidValue

Pictures = tuple[UInt8[Tensor, "_ C H W"], Int64[Tensor, " _"]]
"""Pixels, and as many classes."""


class LabelledImages(ItemSource):
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
        self._class_names, self._augment = class_names, augment
        kept, held = hold_out(train[1], num_val, split_seed)
        self._pictures = {
            "train": (train[0][kept], train[1][kept]),
            "val": (train[0][held], train[1][held]),
            "test": test,
        }
        self.items = {split: range(len(pixels)) for split, (pixels, _) in self._pictures.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field(tuple(self._pictures["train"][0].shape[1:]), torch.uint8)}),
            "label": class_spec(self._class_names),
        }

    def sample(self, item: int, split: str) -> Sample:
        pixels, classes = self._pictures[split]
        picture = pixels[item].clone()  # an augmentation may work in place
        augment = self._augment if split == "train" else None
        return {
            "image": {"pixels": augment(picture) if augment else picture},
            "label": {"class": classes[item].clone()},
        }
