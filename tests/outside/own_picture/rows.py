"""Pictures as tokens that can be turned back: one token per row of pixels."""

import torch
from torch import nn

from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Panel
from mmtx.tokens import Tokens


class Rows(Tokenizer):
    panel = Panel(width=2.0, height=2.4)

    def __init__(self, *, spec, dim: int, clock: str | None) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        self.channels, self.height, self.width = spec.fields["pixels"].shape
        self.projection = nn.Linear(self.channels * self.width, dim, bias=False)

    @property
    def extent(self):
        return (self.height,)

    @property
    def max_tokens(self):
        return self.height

    def num_tokens(self, lengths):
        return lengths * self.height

    def forward(self, fields, lengths, full):
        rows = fields["pixels"].transpose(1, 2).flatten(2)  # B height C*width
        index = torch.arange(self.height, device=rows.device)
        return Tokens(
            content=self.projection(rows.to(self.projection.weight.dtype) / 255),
            coordinates=index[:, None],
            time=torch.zeros_like(index)[None],
            lengths=self.num_tokens(lengths),
            num_items=1,
            full=full,
        )

    def invert(self, tokens):
        rows = tokens.content.float() @ torch.linalg.pinv(self.projection.weight.float()).T
        pixels = rows.unflatten(2, (self.channels, self.width)).transpose(1, 2) * 255
        return {"pixels": pixels.round().clamp(0, 255).to(torch.uint8)}

    def draw(self, axes, fields, length):
        axes.imshow(fields["pixels"].permute(1, 2, 0).squeeze(-1).cpu().numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
