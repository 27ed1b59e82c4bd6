"""Series: one token per step, of a vector or a class."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Shaped
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
    numbered, is_scaled = "values", False

    def __init__(self, *, spec: Spec, dim: int, clock: str | None, squash: bool) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        self.field = next((key for key in ("values", "class") if key in spec.fields), "")
        if not self.field:
            offered = ", ".join(spec.fields)
            raise ValueError(f"a tokenizer 'series' reads 'values' or 'class'; the data offers {offered}")
        field, self.squash = spec.fields[self.field], squash
        self.is_ragged, self.numbers_per_token = field.ragged, 0
        shape = field.shape[1:] if field.ragged else field.shape
        if self.field == "values":
            if len(shape) != 1:
                raise ValueError(f"a tokenizer 'series' reads vectors; the data's values are {field.shape}")
            self.numbers_per_token = shape[0] or 0
            self.projection: nn.Module = nn.Linear(self.numbers_per_token, dim)
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

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        content = self.projection(self._steps(fields) if self.field == "class" else self.numbers(fields, lengths))
        steps = content.shape[1]
        return Tokens(
            content=content.tanh() if self.squash else content,
            coordinates=torch.zeros(steps, 0, dtype=torch.long, device=content.device),
            time=given_times(fields, steps, content.device) if self.is_ragged else _zero(content.device),
            lengths=lengths,
            num_items=steps,
            full=full,
        )

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        return self._steps(fields).to(next(self.parameters()).dtype)

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        return {"values": numbers if self.is_ragged else numbers[:, 0]}

    def _steps(self, fields: Mapping[str, Tensor]) -> Shaped[Tensor, "B n *k"]:
        return fields[self.field] if self.is_ragged else fields[self.field][:, None]


def _zero(device: torch.device) -> Int[Tensor, "1 1"]:
    return torch.zeros(1, 1, dtype=torch.long, device=device)
