"""A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078) as the mixer of a layer."""

from torch import nn

from mmtx.nn import Mixer, MixerCache


class GRU(Mixer):
    needs_time_order = True
    packs = True

    def __init__(self, dim, num_heads):
        super().__init__()
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x, context, *, bias=None, cache=None):
        before = None if cache is None else cache.state
        mixed, after = self.gru(context.samples(x), before)
        if cache is not None:
            cache.state = after
        return context.joined(mixed)

    def new_cache(self, capacity):
        return State()


class State(MixerCache):
    state = None

    def select(self, index):
        self.state = None if self.state is None else self.state[:, index]
