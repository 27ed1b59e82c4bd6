"""Pictures with one class each, held in memory."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from mmtx.batch import Batch, Field, Sample, Spec
from mmtx.data.base import ItemSource, Samples, Split
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
        self._class_names, self._augment = class_names, None if isinstance(augment, nn.Identity) else augment
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

    def _split(self, name: str) -> Split:
        if name == "train" and self._augment is not None:
            return super()._split(name)
        return PicturesSplit(*self._pictures[name], partial(self._sample, name))

    def sample(self, item: int, split: str) -> Sample:
        pixels, classes = self._pictures[split]
        picture = pixels[item].clone()  # an augmentation may work in place
        augment = self._augment if split == "train" else None
        return {
            "image": {"pixels": augment(picture) if augment else picture},
            "label": {"class": classes[item].clone()},
        }


class PicturesSplit(Samples):
    """Pictures as they are, one by one or in whole batches; a `mmtx.data.BatchSplit`.

    Args:
        pixels: of all pictures.
        classes: of as many.
        make: a sample by its index.
    """

    def __init__(
        self, pixels: UInt8[Tensor, "_ C H W"], classes: Int64[Tensor, " _"], make: Callable[[int], Sample]
    ) -> None:
        super().__init__(len(pixels), make)
        self._fields = {"image": {"pixels": pixels}, "label": {"class": classes}}

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        index = torch.tensor(list(indices))
        return Batch(
            {name: {key: values[index] for key, values in self._fields[name].items()} for name in specs},
            {name: torch.ones_like(index) for name in specs},
            dict.fromkeys(specs, True),
            index,
        )
