"""Video: one token per tubelet, a block of some frames, rows and columns."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.base import Tokenizer, given_times, required_field
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.drawing import draw_strip
from mmtx.modalities.image import check_patch_size, per_channel
from mmtx.tokens import Tokens


class Video(Tokenizer):
    """Tubelets through one linear map (Arnab et al. 2021, arXiv 2103.15691, section 3.2; Tong et al. 2022, arXiv
    2203.12602).

    Reads the ragged field ``frames``, ``(frames, C, height, width)``: uint8 in 0..255, or float in 0..1; and ``times``,
    ``(frames,)``, where samples have it, of which a tubelet has that of its first frame. A last tubelet of too few
    frames is filled with the last of them.

    Args:
        patch_size: side of a tubelet in pixels; divides height and width.
        tubelet_frames: of a tubelet.
        causal: tubelets of the same frames are an item, which attends to itself and to earlier ones; positions are
            then row and column, and time is that of the clock. Otherwise a film is one item, and positions are time,
            row and column.
        mean: subtracted from pixels in 0..1, one value or one per channel.
        std: divides them after.
    """

    roles = {"projection.weight": "input"}
    panel = Panel(width=4.2, height=1.3)
    column_kind = "video"
    numbered, is_scaled = "frames", True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        patch_size: int,
        tubelet_frames: int,
        causal: bool,
        mean: float | list[float],
        std: float | list[float],
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "frames", "video")
        field = spec.fields["frames"]
        if not field.ragged or len(field.shape) != 4:
            needed = "frames of shape (frames, C, height, width), as many as a sample has"
            raise ValueError(f"a tokenizer 'video' reads {needed}; the data's are {field.shape}")
        channels, height, width = (size or 0 for size in field.shape[1:])
        check_patch_size(patch_size, height, width)
        check_at_least("tubelet_frames", tubelet_frames, 1)
        if not causal and "times" in spec.fields:
            raise InvalidValue("causal", causal, "lays a film out as one item, and samples have times of their own")
        self.patch_size, self.tubelet_frames, self.causal = patch_size, tubelet_frames, causal
        self.rows, self.columns = height // patch_size, width // patch_size
        self.max_groups = math.ceil((field.max_length or 1) / tubelet_frames)
        self.scale = 255.0 if field.dtype == torch.uint8 else 1.0
        self.register_buffer("mean", per_channel("mean", mean, channels), persistent=False)
        self.register_buffer("std", per_channel("std", std, channels), persistent=False)
        if not (self.std > 0).all():
            raise InvalidValue("std", std, "must be above 0")
        self.numbers_per_token = channels * tubelet_frames * patch_size**2
        self.projection = nn.Linear(self.numbers_per_token, dim)

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.rows, self.columns) if self.causal else (self.max_groups, self.rows, self.columns)

    @property
    def max_tokens(self) -> int:
        return self.max_groups * self.rows * self.columns

    @property
    def num_times(self) -> int:
        times = self.spec.fields.get("times")
        items = self.max_groups if self.causal else 1
        return items if times is None or times.num_classes is None else times.num_classes

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        groups = (lengths + self.tubelet_frames - 1) // self.tubelet_frames
        return groups * self.rows * self.columns

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        frames = self._filled(fields["frames"], lengths)
        content = self.projection(self.tubelets(self._scaled(frames)))
        device, per_group = content.device, self.rows * self.columns
        groups = frames.shape[1] // self.tubelet_frames
        sizes = (self.rows, self.columns) if self.causal else (groups, self.rows, self.columns)
        coordinates = torch.cartesian_prod(*(torch.arange(size, device=device) for size in sizes))
        time = coordinates.new_zeros(1, groups * per_group)
        if self.causal:
            coordinates = coordinates.repeat(groups, 1)
            time = self._times(fields, groups, device).repeat_interleave(per_group, dim=1)
        return Tokens(
            content=content,
            coordinates=coordinates,
            time=time,
            lengths=self.num_tokens(lengths),
            num_items=groups if self.causal else 1,
            full=full,
        )

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The frames whose tubelets have this content, those nearest to the mean where several have; exact where the
        linear map loses nothing. Those that filled a last tubelet are there, too."""
        inverse = torch.linalg.pinv(self.projection.weight.double())
        content = tokens.content.double() - self.projection.bias.double()
        frames = self.fields_of(content @ inverse.T)["frames"]
        if self.scale == 1:
            return {"frames": frames.to(self.projection.weight.dtype)}
        return {"frames": frames.round().clamp(0, 255).to(torch.uint8)}

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        """The patches of frames that are scaled by `mean` and `std`, one frame after the other."""
        return self.tubelets(self._scaled(self._filled(fields["frames"], lengths)))

    @property
    def fills(self) -> bool:
        return self.tubelet_frames > 1

    def of_data(self, count: int, lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B count k"]:
        """The numbers of frames that a sample has, without those that repeat its last one."""
        token, number = (torch.arange(size, device=lengths.device) for size in (count, self.numbers_per_token))
        group, within = token // (self.rows * self.columns), number // self.patch_size**2 % self.tubelet_frames
        return group[:, None] * self.tubelet_frames + within < lengths[:, None, None]

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        """Frames in the units of the data."""
        p, t = self.patch_size, self.tubelet_frames
        grid = numbers.unflatten(1, (-1, self.rows, self.columns)).unflatten(4, (-1, t, p, p))
        # B groups rows columns C t p p
        frames = grid.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(1, 2)
        return {"frames": (frames * self.std + self.mean) * self.scale}

    def tubelets(self, frames: Float[Tensor, "B T C height width"]) -> Float[Tensor, "B n k"]:
        """Tubelets by time, row and column, each laid out channel by channel like a convolution's weight."""
        p, t = self.patch_size, self.tubelet_frames
        grid = frames.unflatten(4, (self.columns, p)).unflatten(3, (self.rows, p)).unflatten(1, (-1, t))
        return grid.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """A strip of frames."""
        draw_strip(axes, self.film(fields, max(length, 1)))

    def film(self, fields: Mapping[str, Tensor], length: int) -> Float[Tensor, "T C height width"]:
        """The frames of a sample, in 0..1, on the host."""
        return (fields["frames"][:length].float() / self.scale).clamp(0, 1).cpu()

    def _scaled(self, frames: Shaped[Tensor, "B T C height width"]) -> Float[Tensor, "B T C height width"]:
        return (frames.to(self.projection.weight.dtype) / self.scale - self.mean) / self.std

    def _filled(
        self, frames: Shaped[Tensor, "B T C height width"], lengths: Int[Tensor, " B"]
    ) -> Shaped[Tensor, "B T2 C height width"]:
        """Whole tubelets, the last of each sample filled with its last frame."""
        if self.tubelet_frames == 1:
            return frames
        groups = (frames.shape[1] + self.tubelet_frames - 1) // self.tubelet_frames
        index = torch.arange(groups * self.tubelet_frames, device=frames.device)
        index = torch.minimum(index, (lengths[:, None] - 1).clamp(min=0))
        return frames.gather(1, index[..., None, None, None].expand(-1, -1, *frames.shape[2:]))

    def _times(self, fields: dict[str, Tensor], groups: int, device: torch.device) -> Int[Tensor, "#B groups"]:
        if "times" in fields:
            return fields["times"][:, :: self.tubelet_frames]
        return given_times(fields, groups, device)
