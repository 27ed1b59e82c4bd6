"""Pictures of any shape: one token per patch, as many as the picture has."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import check_at_least
from mmtx.modalities.base import Tokenizer, required_field
from mmtx.modalities.image import per_channel
from mmtx.tokens import Tokens


class NativeImage(Tokenizer):
    """Patches of pictures that keep their shape, through one linear map, with positions of their own (SigLIP 2 NaFlex:
    Tschannen et al. 2025, arXiv 2502.14786; NaViT: Dehghani et al. 2023, arXiv 2307.06304).

    Reads the field ``patches``, ``(patches, values)`` uint8, ragged, row by row, each ``(row, column, channel)``; and
    ``grid``, ``(2,)``, the picture's rows and columns of patches. A picture is one item. Its positions are a table of
    `side` x `side` vectors, resized to its grid (bilinear, smoothed where it becomes smaller); tokens have no others.

    Args:
        patch_size: side of a patch in pixels.
        side: of the table of positions.
        mean: subtracted from pixels in 0..1, one value or one per channel.
        std: divides them after.
    """

    roles = {"projection.weight": "input", "table": "position"}
    column_kind = "picture"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        patch_size: int,
        side: int,
        mean: float | list[float],
        std: float | list[float],
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        for field in ("patches", "grid"):
            required_field(spec, field, "native_image")
        check_at_least("patch_size", patch_size, 1)
        check_at_least("side", side, 1)
        values = spec.fields["patches"].shape[-1] or 0
        channels, rest = divmod(values, patch_size**2)
        if rest or not channels:
            raise ValueError(f"patches of {patch_size} x {patch_size} pixels; the data's have {values} values")
        self.patch_size, self.side = patch_size, side
        for key, given in (("mean", mean), ("std", std)):
            self.register_buffer(key, per_channel(key, given, channels).flatten(), persistent=False)
        self.projection = nn.Linear(values, dim)
        self.table = nn.Parameter(torch.randn(side**2, dim) * 0.02)

    @property
    def extent(self) -> tuple[int, ...]:
        return ()

    @property
    def max_tokens(self) -> int:
        return self.spec.max_length

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        pixels = fields["patches"].to(self.projection.weight.dtype).unflatten(2, (-1, len(self.mean))) / 255
        patches = ((pixels - self.mean) / self.std).flatten(2)
        count, device = patches.shape[1], patches.device
        return Tokens(
            content=self.projection(patches) + self.positions(fields["grid"], count),
            coordinates=torch.zeros(count, 0, dtype=torch.long, device=device),
            time=torch.zeros(1, count, dtype=torch.long, device=device),
            lengths=lengths,
            num_items=1,
            full=full,
        )

    def positions(self, grid: Int[Tensor, "B 2"], count: int) -> Float[Tensor, "B n D"]:
        """The table, resized to the grid of each picture: of its first `count` patches, row by row.

        As products with the weights of each patch, no size is read on the host. They are what Pillow makes of the
        table. `transformers` differs for a picture of one column alone: torch's `interpolate` with antialias gives all
        its rows the values of the first."""
        rows, columns = grid.clamp(min=1)[:, :, None].unbind(1)
        place = torch.arange(count, device=grid.device)
        over_rows = _weights(place // columns, rows, self.side)
        over_columns = _weights(place % columns, columns, self.side)
        weights = (over_rows[..., None] * over_columns[..., None, :]).flatten(2)
        return weights.to(self.table.dtype) @ self.table


def _weights(place: Int[Tensor, "B n"], size: Int[Tensor, "B 1"], side: int) -> Float[Tensor, "B n side"]:
    """Of each of `side` values, for the one at a place of `size`: triangles, as wide as the step if that is above 1."""
    step = side / size.float()
    centre = (place + 0.5) * step
    distance = (torch.arange(side, device=place.device) + 0.5 - centre[..., None]) / step.clamp(min=1)[..., None]
    weights = (1 - distance.abs()).clamp(min=0)
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)  # of padding nothing is left
