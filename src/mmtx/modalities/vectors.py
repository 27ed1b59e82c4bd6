"""Vectors: one token per vector of an unordered set, all of one moment."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.modalities.base import Tokenizer, required_field
from mmtx.tokens import Tokens


class Vectors(Tokenizer):
    """Readings of a sensor at one moment: echoes of a radar, points of a map. One item, whatever its number of tokens.

    Reads the field ``values``, ``(vectors, size)`` float32, ragged, through a linear map. Tokens have no position:
    where the order of the vectors matters, it belongs into the vectors.
    """

    column_kind = "series"
    numbered, is_scaled = "values", False

    def __init__(self, *, spec: Spec, dim: int, clock: str | None) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "values", "vectors")
        field = spec.fields["values"]
        if not field.ragged or len(field.shape) != 2:
            raise ValueError(f"a tokenizer 'vectors' reads any number of vectors; the data's values are {field.shape}")
        self.numbers_per_token = field.shape[1] or 0
        self.projection = nn.Linear(self.numbers_per_token, dim)

    @property
    def extent(self) -> tuple[int, ...]:
        return ()

    @property
    def max_tokens(self) -> int:
        return self.spec.max_length

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        content = self.projection(self.numbers(fields, lengths))
        count, device = content.shape[1], content.device
        return Tokens(
            content=content,
            coordinates=torch.zeros(count, 0, dtype=torch.long, device=device),
            time=torch.zeros(1, count, dtype=torch.long, device=device),
            lengths=lengths,
            num_items=1,
            full=full,
        )

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        return fields["values"].to(self.projection.weight.dtype)

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        return {"values": numbers}
