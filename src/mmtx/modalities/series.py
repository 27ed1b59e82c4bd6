"""Series: one token per step, of a vector or a class."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.modalities.base import Tokenizer, given_times
from mmtx.tokens import Tokens


class Series(Tokenizer):
    """Steps of a trajectory or readings of a sensor: returns, states, actions, rewards, speeds.

    Reads the field ``values``, ``(steps, size)`` float32, through a linear map; or ``class``, ``(steps,)``, one
    embedding each; and ``times``, ``(steps,)``, where samples have it. Without an axis of steps, a sample is one step.

    Args:
        squash: tanh of the token, as in the decision transformer for Atari.
    """

    column_kind = "numbers"

    def __init__(self, *, spec: Spec, dim: int, clock: str | None, squash: bool) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        self.field = next((key for key in ("values", "class") if key in spec.fields), "")
        if not self.field:
            offered = ", ".join(spec.fields)
            raise ValueError(f"a tokenizer 'series' reads 'values' or 'class'; the data offers {offered}")
        field, self.squash = spec.fields[self.field], squash
        self.is_ragged = field.ragged
        shape = field.shape[1:] if field.ragged else field.shape
        if self.field == "values":
            if len(shape) != 1:
                raise ValueError(f"a tokenizer 'series' reads vectors; the data's values are {field.shape}")
            self.projection: nn.Module = nn.Linear(shape[0] or 0, dim)
        else:
            if shape or field.num_classes is None:
                raise ValueError("the data's field 'class' must be one class per step and declare num_classes")
            self.projection, self.coded = nn.Embedding(field.num_classes, dim), ("projection.weight",)
            self.roles = {"projection.weight": "embedding"}

    @property
    def extent(self) -> tuple[int, ...]:
        return ()

    @property
    def max_tokens(self) -> int:
        return self.spec.fields[self.field].max_length or 1

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths

    @property
    def patch_numbers(self) -> int:
        """Numbers of a step; 0 for a class."""
        return self.projection.in_features if isinstance(self.projection, nn.Linear) else 0

    def to_patches(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B steps size"]:
        return fields["values"] if self.is_ragged else fields["values"][:, None]

    def from_patches(self, patches: Float[Tensor, "B steps size"]) -> dict[str, Tensor]:
        return {"values": patches if self.is_ragged else patches[:, 0]}

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        values = fields[self.field] if self.is_ragged else fields[self.field][:, None]
        content = self.projection(values if self.field == "class" else values.to(next(self.parameters()).dtype))
        steps = content.shape[1]
        return Tokens(
            content=content.tanh() if self.squash else content,
            coordinates=torch.zeros(steps, 0, dtype=torch.long, device=content.device),
            time=given_times(fields, steps, content.device) if self.is_ragged else _zero(content.device),
            lengths=lengths,
            num_items=steps,
            full=full,
        )


def _zero(device: torch.device) -> Int[Tensor, "1 1"]:
    return torch.zeros(1, 1, dtype=torch.long, device=device)
