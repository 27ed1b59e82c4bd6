"""Films whose codes are learnt: one token per code of a tubelet."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.pixels import Films
from mmtx.codes.quantiser import Quantiser
from mmtx.errors import check_at_least
from mmtx.modalities.base import required_field
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.drawing import draw_strip
from mmtx.modalities.learnt_codes import LearntCodes


class CodedVideo(LearntCodes):
    """A film as a grid of codes, one for each tubelet, all of which attend to each other.

    Reads the ragged field ``frames``, ``(frames, C, height, width)``: uint8 in 0..255, or float in 0..1.

    Args:
        patch_size: side of a tubelet in pixels; divides height and width.
        tubelet_frames: of a tubelet; a last one may have fewer.
        width: features of the convolutions.
        quantiser: chooses the codes.
    """

    panel = Panel(width=4.2, height=1.3)
    column_kind = "video"

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        patch_size: int,
        tubelet_frames: int,
        width: int,
        quantiser: Quantiser,
    ) -> None:
        required_field(spec, "frames", "coded_video")
        field = spec.fields["frames"]
        if not field.ragged or len(field.shape) != 4 or "times" in spec.fields:
            needed = "frames of shape (frames, C, height, width), without times of their own"
            raise ValueError(f"a tokenizer 'coded_video' reads {needed}; the data's are {field.shape}")
        check_at_least("tubelet_frames", tubelet_frames, 1)
        super().__init__(
            spec=spec,
            dim=dim,
            clock=clock,
            content=Films.of(spec),
            patch=(tubelet_frames, patch_size, patch_size),
            width=width,
            quantiser=quantiser,
        )
        self.scale = 255.0 if field.dtype == torch.uint8 else 1.0

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """A strip of frames."""
        draw_strip(axes, self.film(fields, max(length, 1)))

    def film(self, fields: Mapping[str, Tensor], length: int) -> Float[Tensor, "T C height width"]:
        """The frames of a sample, in 0..1, on the host."""
        return (fields["frames"][:length].float() / self.scale).clamp(0, 1).cpu()
