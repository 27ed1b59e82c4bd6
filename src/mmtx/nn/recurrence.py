"""Mixers that read the tokens of a sample one after the other. Axes as in `layer_context`."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.attention.kernels import Bias
from mmtx.nn.cache import MixerCache
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.mixer import Mixer

State = tuple[Tensor, ...]
"""What earlier tokens of each sample left, a row for each sample; empty before the first."""


class StateCache(MixerCache):
    """The state behind the last token, which no dropped token leaves."""

    streams = True

    def __init__(self) -> None:
        self.state: State = ()

    def select(self, index: Int[Tensor, " rows"]) -> None:
        self.state = tuple(part[index] for part in self.state)


class Recurrence(Mixer):
    """A mixer whose output at a token follows from the token and a state, which each sample begins anew.

    Every sample is computed in a row of its own, and padding stands behind its tokens (`TimeOrder`), so that neither
    packing nor padding is seen by a state.
    """

    needs_time_order = True
    packs = True

    def forward(
        self, x: Float[Tensor, "B N D"], context: LayerContext, *, bias: Bias = None, cache: MixerCache | None = None
    ) -> Float[Tensor, "B N D"]:
        assert cache is None or isinstance(cache, StateCache)
        mixed, state = self.recur(context.samples(x), None if cache is None else cache.state)
        if cache is not None:
            assert state is not None
            cache.state = state
        return context.joined(mixed)

    def new_cache(self, capacity: int) -> StateCache:
        return StateCache()

    @abstractmethod
    def recur(
        self, x: Float[Tensor, "samples n D"], state: State | None
    ) -> tuple[Float[Tensor, "samples n D"], State | None]:
        """What is added to each token, and the state behind the last.

        Args:
            x: tokens, of each sample from its first.
            state: behind earlier tokens; None: there are none, and none of what comes behind is asked for.
        """


def precise(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 at least, whose digits sums over many tokens need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
