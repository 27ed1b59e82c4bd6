"""Images: one token per patch."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer, given_times, required_field
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.picture_augment import PictureAugment
from mmtx.tokens import Tokens


class Image(Tokenizer):
    """Square patches through one linear map (Dosovitskiy et al. 2020, arXiv 2010.11929).

    Reads the field ``pixels``, ``(C, height, width)``: uint8 in 0..255, or float in 0..1. A picture is one item. With a
    ragged axis of steps in front, every step has a picture, and ``times``, ``(steps,)``, is read where samples have it.

    Args:
        patch_size: side of a patch in pixels; divides height and width, but with `cut`.
        summary: a learned token in front that summarises the picture (CLS).
        num_registers: learned scratch tokens (Darcet et al. 2023, arXiv 2309.16588).
        mean: subtracted from pixels in 0..1, one value or one per channel.
        std: divides them after.
        augment: of pictures in training; None: as they are.
        centred: rows and columns count from the middle in halves of a patch, so that the middle of patch r of R is
            ``2r + 1 - R``; the tokens in front, which have no place, stand in the middle (DINOv3).
        cut: pixels beyond the last whole patch, on the right and below, are left out, as a convolution leaves them.
    """

    roles = {"projection.weight": "input", "readouts": "token"}
    panel = Panel()
    mean: Tensor
    std: Tensor

    column_kind = "picture"
    numbered, is_scaled = "pixels", True

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        patch_size: int,
        summary: bool,
        num_registers: int,
        mean: float | list[float],
        std: float | list[float],
        augment: PictureAugment | None = None,  # this and the next two are absent in stored configs of earlier versions
        centred: bool = False,
        cut: bool = False,
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "pixels", "image")
        field = spec.fields["pixels"]
        shape, self.is_ragged = [size for size in field.shape if size is not None], field.ragged
        self.augment = augment if augment is not None and augment.changes else None
        for key, wanted in (
            ("summary", summary),
            ("num_registers", num_registers),
            ("augment", self.augment is not None),
        ):
            if self.is_ragged and wanted:
                raise InvalidValue(key, wanted, "is for single pictures, not for one of every step")
        if len(shape) != 3:
            given = spec.fields["pixels"].shape
            raise ValueError(f"a tokenizer 'image' reads pixels of shape (C, height, width); the data's are {given}")
        channels, height, width = shape
        check_patch_size(patch_size, height, width, cut=cut)
        self.patch_size, self.num_summaries, self.num_registers = patch_size, int(summary), num_registers
        self.rows, self.columns, self.centred = height // patch_size, width // patch_size, centred
        self.numbers_per_token = channels * patch_size**2
        self.scale = 255.0 if spec.fields["pixels"].dtype == torch.uint8 else 1.0
        self.register_buffer("mean", per_channel("mean", mean, channels), persistent=False)
        self.register_buffer("std", per_channel("std", std, channels), persistent=False)
        if not (self.std > 0).all():
            raise InvalidValue("std", std, "must be above 0")
        self.projection = nn.Linear(self.numbers_per_token, dim)
        num_prefix = self.num_summaries + num_registers
        self.readouts = nn.Parameter(torch.randn(num_prefix, dim) * 0.02) if num_prefix else None

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.rows, self.columns)

    @property
    def max_tokens(self) -> int:
        per_picture = self.rows * self.columns + self.num_summaries + self.num_registers
        return per_picture * (self.spec.fields["pixels"].max_length or 1)

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths * (self.rows * self.columns + self.num_summaries + self.num_registers)

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        steps = fields["pixels"].shape[1] if self.is_ragged else 1
        content = self.projection(self.numbers(fields, lengths))
        if self.readouts is not None:
            content = torch.cat([self.readouts.expand(content.shape[0], -1, -1), content], dim=1)
        device = content.device
        rows, columns = (self._places(count, device) for count in (self.rows, self.columns))
        coordinates = torch.cartesian_prod(rows, columns).view(-1, 2).repeat(steps, 1)
        coordinates = torch.cat([coordinates.new_zeros(self.num_summaries + self.num_registers, 2), coordinates])
        time = coordinates.new_zeros(1, coordinates.shape[0])
        if self.is_ragged:
            time = given_times(fields, steps, device).repeat_interleave(self.rows * self.columns, dim=1)
        return Tokens(
            content=content,
            coordinates=coordinates,
            time=time,
            lengths=self.num_tokens(lengths),
            num_items=steps,
            full=full,
            num_summaries=self.num_summaries,
            num_registers=self.num_registers,
        )

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The pixels whose patches have this content, those nearest to the mean where several have; exact where the
        linear map loses nothing. What `cut` leaves out is at the mean."""
        inverse = torch.linalg.pinv(self.projection.weight.double())
        content = tokens.content.double() - self.projection.bias.double()
        pixels = self.fields_of(content[:, self.num_summaries + self.num_registers :] @ inverse.T)["pixels"]
        if self.scale == 1:
            return {"pixels": pixels.to(self.projection.weight.dtype)}
        return {"pixels": pixels.round().clamp(0, 255).to(torch.uint8)}

    def _from_patches(self, patches: Float[Tensor, "B n pixels"]) -> Float[Tensor, "B C height width"]:
        """The inverse of `patches`, with zeros beyond the last whole one."""
        p = self.patch_size
        grid = patches.unflatten(1, (self.rows, self.columns)).unflatten(3, (-1, p, p))  # B rows columns C p p
        whole = grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        height, width = (size or 0 for size in self.spec.fields["pixels"].shape[-2:])
        return F.pad(whole, (0, width - whole.shape[3], 0, height - whole.shape[2]))

    def _places(self, count: int, device: torch.device) -> Int[Tensor, " count"]:
        """Of the patches along an axis."""
        index = torch.arange(count, device=device)
        return 2 * index + 1 - count if self.centred else index

    def augmented(self, fields: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        if self.augment is None:
            return fields
        pixels = fields["pixels"]
        with torch.autocast(pixels.device.type, enabled=False):  # places are float32, whatever the network is
            return {**fields, "pixels": self.augment(pixels.float() / self.scale, generator) * self.scale}

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """A picture with its patches; of several, the last."""
        pixels = fields["pixels"].cpu()
        picture = pixels[max(length - 1, 0)] if self.is_ragged else pixels
        axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", interpolation="nearest")
        height, width = picture.shape[1:]
        axes.set_xticks([x - 0.5 for x in range(0, width + 1, self.patch_size)])
        axes.set_yticks([y - 0.5 for y in range(0, height + 1, self.patch_size)])
        axes.grid(color="tab:orange", linewidth=0.6)
        axes.tick_params(length=0, labelbottom=False, labelleft=False)

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        """The patches of pixels that are scaled by `mean` and `std`; those of several pictures one after the other."""
        pixels = fields["pixels"].to(self.projection.weight.dtype) / self.scale
        patches = self.patches(((pixels - self.mean) / self.std).flatten(0, -4))
        return patches.unflatten(0, (-1, pixels.shape[1] if self.is_ragged else 1)).flatten(1, 2)

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        """Pixels in the units of the data; those that `cut` leaves out are at the mean."""
        patches = numbers.unflatten(1, (-1, self.rows * self.columns)).flatten(0, 1)
        pixels = (self._from_patches(patches) * self.std + self.mean) * self.scale
        return {"pixels": pixels.unflatten(0, (len(numbers), -1)) if self.is_ragged else pixels}

    def patches(self, pixels: Float[Tensor, "B C height width"]) -> Float[Tensor, "B n pixels"]:
        """The patches row by row, each laid out channel by channel like a convolution's weight."""
        p = self.patch_size
        pixels = pixels[..., : self.rows * p, : self.columns * p]
        grid = pixels.unflatten(3, (self.columns, p)).unflatten(2, (self.rows, p))  # B C rows p columns p
        return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def check_patch_size(patch_size: int, height: int, width: int, *, cut: bool = False) -> None:
    """Raises InvalidValue where patches do not fill a picture, or with `cut` none fits."""
    if not 1 <= patch_size <= min(height, width) or not cut and (height % patch_size or width % patch_size):
        fits = [p for p in range(1, min(height, width) + 1) if height % p == 0 and width % p == 0]
        near = ", ".join(map(str, sorted(sorted(fits, key=lambda p: abs(p - patch_size))[:2])))
        raise InvalidValue("patch_size", patch_size, f"does not divide the image of {height} x {width}", near)


def per_channel(key: str, value: float | list[float], channels: int) -> Float[Tensor, "C 1 1"]:
    """A value for each channel. Raises InvalidValue where there are others than one, or one for each."""
    values = [float(value)] * channels if isinstance(value, int | float) else [float(v) for v in value]
    if len(values) != channels:
        raise InvalidValue(key, value, f"has {len(values)} values for {channels} channels")
    return torch.tensor(values)[:, None, None]
