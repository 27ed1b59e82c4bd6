"""Images whose codes are learnt: one token per code."""

from mmtx.batch import Spec
from mmtx.codes.pixels import Pictures
from mmtx.codes.quantiser import Quantiser
from mmtx.modalities.base import required_field
from mmtx.modalities.learnt_codes import LearntCodes


class CodedImage(LearntCodes):
    """A picture as a grid of codes.

    Reads the field ``pixels``, ``(C, height, width)``: uint8 in 0..255, or float in 0..1.

    Args:
        patch_size: side of the square that a code stands for; divides height and width.
        width: features of the convolutions.
        quantiser: chooses the codes.
    """

    column_kind = "picture"

    def __init__(
        self, *, spec: Spec, dim: int, clock: str | None, patch_size: int, width: int, quantiser: Quantiser
    ) -> None:
        required_field(spec, "pixels", "coded_image")
        field = spec.fields["pixels"]
        if field.ragged or len(field.shape) != 3:
            raise ValueError(f"a tokenizer 'coded_image' reads pixels of shape (C, height, width), not {field.shape}")
        super().__init__(
            spec=spec,
            dim=dim,
            clock=clock,
            content=Pictures.of(spec),
            patch=(patch_size, patch_size),
            width=width,
            quantiser=quantiser,
        )
