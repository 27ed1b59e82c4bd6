"""A recurrence that reads each sample from both of its ends, as a mixer. Axes as in `layer_context`."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.attention.kernels import Bias
from mmtx.errors import InvalidValue
from mmtx.nn.cache import MixerCache
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_kind import made_mixer
from mmtx.nn.mixer import Mixer
from mmtx.nn.recurrence import Recurrence


class BothWays(Mixer):
    """Two recurrences, of which one reads a sample from its first token on, the other from its last (Schuster and
    Paliwal 1997); a linear map reads both outputs. The encoder of the first translators with attention was such a
    mixer (Bahdanau et al. 2015, arXiv 1409.0473).

    Tokens are read as they stand in the set, padding left out.

    Args:
        dim: width D.
        num_heads: passed on.
        mixer: ``mixer(dim, num_heads)`` makes each of the two.
    """

    needs_time_order = True
    reads_ahead = True
    packs = True
    writes_residual = ("out.weight",)

    def __init__(self, dim: int, num_heads: int, *, mixer: Callable[[int, int], Mixer]) -> None:
        super().__init__()
        self.forwards, self.backwards = (_recurrence(mixer, dim, num_heads) for _ in range(2))
        self.out = nn.Linear(2 * dim, dim)

    def forward(
        self, x: Float[Tensor, "B N D"], context: LayerContext, *, bias: Bias = None, cache: MixerCache | None = None
    ) -> Float[Tensor, "B N D"]:
        samples = context.samples(x)
        turned = _turned(samples.shape[1], context.lengths)[..., None]
        ahead, _ = self.forwards.recur(samples, None)
        back, _ = self.backwards.recur(torch.take_along_dim(samples, turned, dim=1), None)
        both = torch.cat([ahead, torch.take_along_dim(back, turned, dim=1)], dim=-1)
        return context.joined(self.out(both))


def _recurrence(make: Callable[[int, int], Mixer], dim: int, num_heads: int) -> Recurrence:
    mixer = made_mixer(make, dim, num_heads, "attention.mixer")
    if not isinstance(mixer, Recurrence):
        problem = "has no state to carry along a sample"
        raise InvalidValue("attention.mixer", type(mixer).__name__, problem, "a class that inherits mmtx.nn.Recurrence")
    return mixer


def _turned(n: int, lengths: Int[Tensor, " #samples"]) -> Int[Tensor, "#samples n"]:
    """At each place, that of the token which stands there once the real ones are turned round: its own inverse."""
    places = torch.arange(n, device=lengths.device)
    return torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
