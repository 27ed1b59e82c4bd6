"""Images whose codes are learnt: one token per code."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.quantiser import Quantiser
from mmtx.modalities.base import Tokenizer, required_field
from mmtx.modalities.capabilities import Coded
from mmtx.tokens import Tokens


class CodedImage(Tokenizer):
    """A picture as a grid of codes, which a convolutional encoder chooses and a decoder turns back into pixels. The
    content of a token is its code's vector through a linear map; gradients of whatever attends to it reach the encoder
    (straight-through). ``objective=[reconstruct]`` learns the codes, alone or beside objectives that read them.

    Reads the field ``pixels``, ``(C, height, width)``: uint8 in 0..255, or float in 0..1. A picture is one item.

    Args:
        patch_size: side of the square that a code stands for; divides height and width.
        width: features of the convolutions.
        quantiser: chooses the codes.
    """

    column_kind = "picture"

    def __init__(
        self, *, spec: Spec, dim: int, clock: str | None, patch_size: int, width: int, quantiser: Quantiser
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "pixels", "coded_image")
        field = spec.fields["pixels"]
        if field.ragged or len(field.shape) != 3:
            raise ValueError(f"a tokenizer 'coded_image' reads pixels of shape (C, height, width), not {field.shape}")
        scale = 255.0 if field.dtype == torch.uint8 else 1.0
        shape = [size or 0 for size in field.shape]
        self.codec = PictureCodec(shape=shape, scale=scale, patch_size=patch_size, width=width, quantiser=quantiser)
        self.projection = nn.Linear(quantiser.dim, dim)

    @property
    def num_codes(self) -> int:
        return self.codec.quantiser.num_codes

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.codec.rows, self.codec.columns)

    @property
    def max_tokens(self) -> int:
        return self.codec.num_tokens

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths * self.codec.num_tokens

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        vectors = self.codec.quantiser(self.codec.encode(fields["pixels"])).vectors
        content = self.projection(vectors.to(self.projection.weight.dtype))
        rows, columns = (torch.arange(count, device=content.device) for count in self.extent)
        coordinates = torch.cartesian_prod(rows, columns).view(-1, 2)
        return Tokens(
            content=content,
            coordinates=coordinates,
            time=coordinates.new_zeros(1, len(coordinates)),
            lengths=self.num_tokens(lengths),
            num_items=1,
            full=full,
        )

    def through_codes(self, fields: Mapping[str, Tensor], present: Bool[Tensor, " B"]) -> Coded:
        found = self.codec(fields["pixels"])
        there = present[:, None].expand(found.quantised.ids.shape)
        statistics = self.codec.quantiser.sums(found.encoded.detach(), found.quantised.ids, there)
        return Coded(found.pixels, found.truth, found.quantised.commitment, found.quantised.ids, statistics)

    @property
    def follows(self) -> Mapping[str, int]:
        return self.codec.quantiser.follows

    def follow(self, sums: Mapping[str, Tensor], left_out: Float[Tensor, ""]) -> None:
        self.codec.quantiser.follow(sums, left_out)

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """The pictures that are decoded from the codes whose tokens are the nearest."""
        every = torch.arange(self.num_codes, device=tokens.content.device)
        vectors = self.projection(self.codec.quantiser.vectors_of(every).to(self.projection.weight.dtype))
        ids = torch.cdist(tokens.content.float(), vectors.float()).argmin(-1)
        return {"pixels": self.codec.pixels(ids)}
