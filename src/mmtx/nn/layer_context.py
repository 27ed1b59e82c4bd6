"""What a layer knows of the tokens besides their vectors.

Axes: B rows of the batch (1 where all rows agree), N tokens in the row, n of the longest sample, D width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from mmtx.attention.kernels import Rendering
from mmtx.attention.packing import Packing
from mmtx.nn.rotary import KeyTable, RotaryTable


@dataclass(frozen=True)
class LayerContext:
    """What a layer knows of the tokens besides their vectors; made once for each forward pass.

    Nothing in it carries a gradient, and nothing changes: what does (the bias of positions, a memory, a cache) is an
    argument of a block by itself, as FSDP2, compilation and recomputation see arguments alone.

    Attributes:
        rendering: of the rule of attention, with the window of the layer.
        valid: a token is real.
        segment: which sample of its row a token belongs to.
        rotary: angles of the tokens, for heads as wide as those of the layer; None: nothing is rotated.
        key_rotary: angles of these tokens and all before them, where a cache keeps keys unturned; None: it keeps them
            turned, or nothing is rotated.
        memory_rendering: of the rule between the tokens and a memory; None: there is none.
        packing: where the tokens of a packed row come from; None where rows are samples.
        past: tokens of each sample before these, of which a cache holds what is needed; where only the device knows
            how many they are, which caches that replay understand, a tensor of it.
        window: reach of attention, in positions; None: everything.
        position: coordinates (time, row, column) of the tokens; None where no mixer needs a window.
        condition_of: which of the conditions each token has, see `Conditions`; None: there are none.
        pairs: a number of every two tokens, from the data; None: there are none.
    """

    rendering: Rendering
    valid: Bool[Tensor, "#B N"]
    segment: Int[Tensor, "#B N"]
    rotary: RotaryTable | None = None
    key_rotary: KeyTable | None = None
    memory_rendering: Rendering | None = None
    packing: Packing | None = None
    past: int | Int[Tensor, " 1"] = 0
    window: int | None = None
    position: Int[Tensor, "#B N 3"] | None = None
    condition_of: Int[Tensor, "#B N"] | None = None
    pairs: Float[Tensor, "B N N"] | None = None

    @property
    def starts(self) -> Bool[Tensor, "#B N"]:
        """A token is the first of its sample, where the state of a recurrence begins anew."""
        changes = self.segment[:, 1:] != self.segment[:, :-1]
        first = torch.full_like(self.segment[:, :1], int(self.past) == 0, dtype=torch.bool)
        return torch.cat([first, changes], dim=1)

    @property
    def lengths(self) -> Int[Tensor, " #samples"]:
        """Real tokens of each sample, which stand first in its row of `samples` if a mixer needs the order of time."""
        return (self.valid if self.packing is None else self.packing.real).sum(1)

    def sum_over_tokens(self, values: Shaped[Tensor, "B N *A"]) -> Num[Tensor, "*A"]:
        """The sum of a value of each token over the real ones: of integers and flags exact, of others in float32 at
        least."""
        real = self.valid.view(*self.valid.shape, *(1 for _ in values.shape[2:]))
        dtype = torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else torch.long
        return values.masked_fill(~real, 0).sum((0, 1), dtype=dtype)

    def samples(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "samples n D"]:
        """Every sample in a row of its own, its tokens first; what stands behind them means nothing."""
        return x if self.packing is None else self.packing.unpack(x)

    def joined(self, samples: Float[Tensor, "samples n D"]) -> Float[Tensor, "B N D"]:
        """Undoes `samples`."""
        return samples if self.packing is None else self.packing.pack(samples)
