"""A network from pictures to codes and back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from mmtx.codes.quantiser import Quantised, Quantiser
from mmtx.errors import InvalidValue, check_at_least


class Decoded(NamedTuple):
    """A picture that went through its codes.

    Attributes:
        pixels: those that were decoded, in 0..1.
        truth: those that went in, in 0..1.
        quantised: one code for each patch, row by row.
        encoded: the vectors that were quantised.
    """

    pixels: Float[Tensor, "B C height width"]
    truth: Float[Tensor, "B C height width"]
    quantised: Quantised
    encoded: Float[Tensor, "B n d"]


class PictureCodec(nn.Module):
    """An encoder, a quantiser and a decoder: a grid of codes, one for each patch. The encoder sees a patch and a border
    of one pixel around it; the decoder the codes next to a patch, too, and what it draws of patches overlaps likewise.

    Args:
        shape: of pictures: channels, height, width.
        scale: pixels divided by it lie in 0..1.
        patch_size: side of the square that a code stands for; divides height and width.
        width: features of the hidden layers.
        quantiser: of as many features as it has.
    """

    draws_weights = True
    roles = {"encoder.*.weight": "input", "decoder.*.weight": "input"}
    """All of them: no size of it follows from the width of a model."""

    def __init__(
        self, *, shape: Sequence[int], scale: float, patch_size: int, width: int, quantiser: Quantiser
    ) -> None:
        super().__init__()
        channels, height, width_pixels = shape
        check_at_least("width", width, 1)
        if patch_size < 1 or height % patch_size or width_pixels % patch_size:
            raise InvalidValue("patch_size", patch_size, f"does not divide the picture of {height} x {width_pixels}")
        self.shape, self.scale, self.patch_size, self.width = tuple(shape), scale, patch_size, width
        self.rows, self.columns = height // patch_size, width_pixels // patch_size
        self.quantiser = quantiser
        overlapping: Any = {"kernel_size": patch_size + 2, "stride": patch_size, "padding": 1}
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, **overlapping),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, quantiser.dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(quantiser.dim, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.ConvTranspose2d(width, channels, **overlapping),
        )

    @property
    def num_tokens(self) -> int:
        """Codes of a picture."""
        return self.rows * self.columns

    def encode(self, pixels: Num[Tensor, "B C height width"]) -> Float[Tensor, "B n d"]:
        """The vectors that are quantised."""
        inputs = self._from_0_to_1(pixels) * 2 - 1
        return self.encoder(inputs).flatten(2).transpose(1, 2)

    def decode(self, vectors: Float[Tensor, "B n d"]) -> Float[Tensor, "B C height width"]:
        """Pixels in 0..1, and a little beyond, from the vectors of codes."""
        grid = vectors.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return (self.decoder(grid.to(self.decoder[0].weight.dtype)).float() + 1) / 2

    def forward(self, pixels: Num[Tensor, "B C height width"]) -> Decoded:
        encoded = self.encode(pixels)
        quantised = self.quantiser(encoded)
        return Decoded(self.decode(quantised.vectors), self._from_0_to_1(pixels).float(), quantised, encoded)

    @torch.no_grad()
    def ids(self, pixels: Num[Tensor, "B C height width"]) -> Int[Tensor, "B n"]:
        """The codes of pictures, row by row."""
        return self.quantiser(self.encode(pixels)).ids

    @torch.no_grad()
    def pixels(self, ids: Int[Tensor, "B n"]) -> Num[Tensor, "B C height width"]:
        """Pictures from their codes: as bytes where the scale is 255, else as numbers in 0..1."""
        pixels = self.decode(self.quantiser.vectors_of(ids)).clamp(0, 1) * self.scale
        return pixels.round().to(torch.uint8) if self.scale == 255 else pixels

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes it again but its weights, as JSON."""
        own = {key: getattr(self, key) for key in ("scale", "patch_size", "width")}
        quantiser = {"kind": type(self.quantiser).__name__, **self.quantiser.settings}
        return {"shape": [*self.shape], **own, "quantiser": quantiser}

    def _from_0_to_1(self, pixels: Num[Tensor, "B C height width"]) -> Float[Tensor, "B C height width"]:
        return pixels.to(next(self.encoder.parameters()).dtype) / self.scale
