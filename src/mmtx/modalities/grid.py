"""Grid environments: one token per patch of cells and step."""

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer, given_times, required_field
from mmtx.tokens import Tokens


class Grid(Tokenizer):
    """Cells with a few symbols each (object, colour, state), one-hot, through one linear map.

    Reads the field ``cells``, ``(steps, height, width, symbols)`` uint8 with `num_classes`, and ``times``,
    ``(steps,)``, where samples have it.

    Args:
        patch_size: side of a patch in cells; divides height and width. The whole view makes one token a step.
    """

    def __init__(self, *, spec: Spec, dim: int, clock: str | None, patch_size: int) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "cells", "grid")
        field = spec.fields["cells"]
        if not field.ragged or len(field.shape) != 4 or field.num_classes is None:
            needed = "cells of shape (steps, height, width, symbols), with num_classes"
            raise ValueError(f"a tokenizer 'grid' reads {needed}")
        height, width, symbols = (size or 0 for size in field.shape[1:])
        if patch_size < 1 or height % patch_size or width % patch_size:
            raise InvalidValue("patch_size", patch_size, f"does not divide the view of {height} x {width} cells")
        self.patch_size, self.num_classes = patch_size, field.num_classes
        self.rows, self.columns = height // patch_size, width // patch_size
        self.projection = nn.Linear(patch_size**2 * symbols * field.num_classes, dim)

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.rows, self.columns)

    @property
    def max_tokens(self) -> int:
        return (self.spec.fields["cells"].max_length or 1) * self.rows * self.columns

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths * self.rows * self.columns

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        cells, p, per_step = fields["cells"], self.patch_size, self.rows * self.columns
        steps, device = cells.shape[1], cells.device
        cut = cells.unflatten(3, (self.columns, p)).unflatten(2, (self.rows, p)).transpose(3, 4)
        symbols = F.one_hot(cut.flatten(4).flatten(1, 3).long(), self.num_classes).flatten(2)
        rows, columns = torch.arange(self.rows, device=device), torch.arange(self.columns, device=device)
        return Tokens(
            content=self.projection(symbols.to(self.projection.weight.dtype)),
            coordinates=torch.cartesian_prod(rows, columns).view(-1, 2).repeat(steps, 1),
            time=given_times(fields, steps, device).repeat_interleave(per_step, dim=1),
            lengths=self.num_tokens(lengths),
            num_items=steps,
            full=full,
        )
