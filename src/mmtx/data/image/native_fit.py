"""Pictures that keep their shape, as patches."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.data.image.decode_image import as_bytes, check_filter
from mmtx.errors import InvalidValue, check_at_least

NEAR, LARGEST_SCALE = 1e-5, 100.0


@dataclass(frozen=True)
class NativeFit:
    """A picture is resized to whole patches, as many as there may be, in its own shape (SigLIP 2 NaFlex).

    Args:
        patch_size: side of a patch in pixels.
        max_patches: of a picture.
        resample: one of Pillow's filters: nearest, bilinear, bicubic, lanczos, box, hamming.
    """

    patch_size: int = 16
    max_patches: int = 256
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        check_at_least("patch_size", self.patch_size, 1)
        check_at_least("max_patches", self.max_patches, 1)
        check_filter(self.resample)

    def apply(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Resizes a picture to whole patches; `size` is not of these pictures."""
        width, height = picture.size
        rows, columns = self.grid(height, width)
        resized = (columns * self.patch_size, rows * self.patch_size)
        return picture.resize(resized, Image.Resampling[self.resample.upper()])

    def pixels(self, picture: Image.Image, size: tuple[int, int]) -> UInt8[Tensor, "C height width"]:
        """The pixels of a picture of 8 bits, resized; `size` is not of these pictures."""
        return as_bytes(self.apply(picture, size))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches: of the largest scale, up to `NEAR`, that gives no more than there may be.

        A side is rounded up to whole patches. Halving an interval, as theirs does, lands on the same side of a tie.

        Raises:
            InvalidValue: the picture is so long that even one row of it has more.
        """
        low, high = NEAR / 10, LARGEST_SCALE
        while high - low >= NEAR:
            middle = (low + high) / 2
            if math.prod(self._patches(side, middle) for side in (height, width)) <= self.max_patches:
                low = middle
            else:
                high = middle
        rows, columns = self._patches(height, low), self._patches(width, low)
        if rows * columns > self.max_patches:
            raise InvalidValue("fit.max_patches", self.max_patches, f"is too few for a picture of {height} x {width}")
        return rows, columns

    def _patches(self, side: int, scale: float) -> int:
        return max(1, math.ceil(side * scale / self.patch_size))

    def spec(self, channels: int) -> Spec:
        """What a picture becomes."""
        values = channels * self.patch_size**2
        patches = Field((None, values), torch.uint8, max_length=self.max_patches)
        return Spec({"patches": patches, "grid": Field((2,), torch.long, num_classes=self.max_patches + 1)})

    def fields(self, pixels: UInt8[Tensor, "C height width"]) -> dict[str, Tensor]:
        """Patches row by row, each ``(row, column, channel)``; and how many rows and columns there are."""
        p = self.patch_size
        grid = pixels.unflatten(2, (-1, p)).unflatten(1, (-1, p))  # C rows p columns p
        patches = grid.permute(1, 3, 2, 4, 0).flatten(2).flatten(0, 1)
        return {"patches": patches, "grid": torch.tensor([grid.shape[1], grid.shape[3]])}
