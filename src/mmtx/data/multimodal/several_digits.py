"""Pictures of several digits, or of none, with the digits that are there."""

import random
from collections.abc import Callable, Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.specs import class_spec, labels_spec
from mmtx.errors import InvalidValue, check_at_least, check_fraction


class SeveralDigits(ItemSource):
    """Names: ``image``, ``labels`` (which digits it shows, each once), ``count`` (of pictures of digits in it).

    A picture is a square of cells, each with a picture of a digit or empty. In training it is drawn anew each time; in
    validation and test it is a function of (`split_seed`, split, index). A split has as many as it has digits.

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        augment: applied to training pictures of digits, uint8 ``(C, H, W)``.
        cells: on each side.
        empty: chance of a cell to be empty.
        split_seed: of what validation and test show.
    """

    def __init__(
        self, *, pictures: Source, augment: Callable[[Tensor], Tensor], cells: int, empty: float, split_seed: int
    ) -> None:
        check_at_least("cells", cells, 1)
        check_fraction("empty", empty)
        self.augment, self.cells, self.empty, self.seed = augment, cells, empty, split_seed
        names = pictures.specs["label"].class_names
        if names is None:
            raise InvalidValue("pictures", type(pictures).__name__, "has no names of classes")
        self.names, self._shape = names, pictures.specs["image"].fields["pixels"].shape
        splits = {"train": pictures.train(), "val": pictures.val(), "test": pictures.test()}
        self._pictures = {split: found for split, found in splits.items() if found is not None}
        self.items = {split: range(len(found)) for split, found in self._pictures.items()}

    @property
    def specs(self) -> Mapping[str, Spec]:
        channels, height, width = (size or 0 for size in self._shape)
        pixels = Field((channels, self.cells * height, self.cells * width), torch.uint8)
        counts = tuple(map(str, range(self.cells**2 + 1)))
        return {"image": Spec({"pixels": pixels}), "labels": labels_spec(self.names), "count": class_spec(counts)}

    def sample(self, item: int, split: str) -> Sample:
        generator = torch.default_generator
        if split != "train":
            seed = random.Random(f"{self.seed} {split} {item}").getrandbits(63)
            generator = torch.Generator().manual_seed(seed)
        filled = torch.rand(self.cells**2, generator=generator) >= self.empty
        chosen = torch.randint(len(self._pictures[split]), (self.cells**2,), generator=generator)
        labels, cells = torch.zeros(len(self.names), dtype=torch.bool), []
        for is_filled, number in zip(filled.tolist(), chosen.tolist(), strict=True):
            pixels, label = self._digit(split, number)
            cells.append(pixels if is_filled else torch.zeros_like(pixels))
            labels[label] |= is_filled
        return {"image": {"pixels": self._board(cells)}, "labels": {"labels": labels}, "count": {"class": filled.sum()}}

    def _digit(self, split: str, number: int) -> tuple[UInt8[Tensor, "C h w"], int]:
        """A picture of a digit, and its class."""
        picture = self._pictures[split][number]
        pixels, label = picture["image"]["pixels"], int(picture["label"]["class"])
        return self.augment(pixels) if split == "train" else pixels, label

    def _board(self, cells: list[UInt8[Tensor, "C h w"]]) -> UInt8[Tensor, "C H W"]:
        """Cells, row by row."""
        rows = [torch.cat(cells[i : i + self.cells], 2) for i in range(0, len(cells), self.cells)]
        return torch.cat(rows, 1)
