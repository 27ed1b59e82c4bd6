"""Names whose codes are learnt: one token per code."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.codes.codec import Codec
from mmtx.codes.content import Content
from mmtx.codes.quantiser import Quantiser
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Coded
from mmtx.tokens import Tokens


class LearntCodes(Tokenizer):
    """A sample as a grid of codes, which a convolutional encoder chooses and a decoder turns back. The content of a
    token is its code's vector through a linear map; gradients of whatever attends to it reach the encoder
    (straight-through).
    ``objective=[reconstruct]`` learns the codes, alone or beside objectives that read them. A sample is one item.

    Args:
        content: what is coded.
        patch: numbers along each axis of the grid that a code stands for.
        width: features of the convolutions.
        quantiser: chooses the codes.
    """

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        content: Content,
        patch: Sequence[int],
        width: int,
        quantiser: Quantiser,
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        self.codec = Codec(content=content, patch=patch, width=width, quantiser=quantiser)
        self.projection = nn.Linear(quantiser.dim, dim)

    @property
    def num_codes(self) -> int:
        return self.codec.quantiser.num_codes

    @property
    def extent(self) -> tuple[int, ...]:
        return self.codec.grid

    @property
    def max_tokens(self) -> int:
        return self.codec.max_codes

    @property
    def num_times(self) -> int:
        return 1

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return self.codec.num_codes(lengths)

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        vectors = self.codec.quantiser(self.codec.encode(fields, lengths)).vectors
        content = self.projection(vectors.to(self.projection.weight.dtype))
        rows = content.shape[1] // self.codec.codes_of_a_row
        axes = [torch.arange(size, device=content.device) for size in (rows, *self.codec.grid[1:])]
        coordinates = torch.cartesian_prod(*axes).view(-1, len(axes))
        return Tokens(
            content=content,
            coordinates=coordinates,
            time=coordinates.new_zeros(1, len(coordinates)),
            lengths=self.num_tokens(lengths),
            num_items=1,
            full=full,
        )

    def through_codes(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Coded:
        found = self.codec(fields, lengths)
        statistics = self.codec.quantiser.sums(found.encoded.detach(), found.quantised.ids, found.real)
        return Coded(found.errors, found.quantised.commitment, found.quantised.ids, found.real, statistics)

    @property
    def follows(self) -> Mapping[str, int]:
        return self.codec.quantiser.follows

    def follow(self, sums: Mapping[str, Tensor], left_out: Float[Tensor, ""]) -> None:
        self.codec.quantiser.follow(sums, left_out)

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """What is decoded from the codes whose tokens are the nearest; whole patches."""
        every = torch.arange(self.num_codes, device=tokens.content.device)
        vectors = self.projection(self.codec.quantiser.vectors_of(every).to(self.projection.weight.dtype))
        ids = torch.cdist(tokens.content.float(), vectors.float()).argmin(-1)
        return {self.codec.content.field: self.codec.values(ids, tokens.lengths)}
