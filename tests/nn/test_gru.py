"""The gated recurrent unit against torch's."""

import torch
from builders import layer_context
from torch import nn

from mmtx.nn.gru import GRU


def test_it_is_that_of_torch() -> None:
    own, theirs = GRU(6, 2), nn.GRU(6, 6, batch_first=True)
    theirs.load_state_dict(own.gru.state_dict())
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(own(x, layer_context(length=7)), theirs(x)[0], atol=1e-5, rtol=1e-5)
