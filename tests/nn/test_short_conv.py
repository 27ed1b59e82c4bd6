"""The gated short convolution against that of LFM2."""

import pytest
import torch
from builders import layer_context

from mmtx.errors import InvalidValue
from mmtx.nn.short_conv import ShortConv


def test_it_is_that_of_lfm2() -> None:
    lfm2 = pytest.importorskip("transformers.models.lfm2.modeling_lfm2")
    config = lfm2.Lfm2Config(hidden_size=6, conv_L_cache=3, conv_bias=False, num_hidden_layers=1)
    own, theirs = ShortConv(6, 2, width=3), lfm2.Lfm2ShortConv(config, layer_idx=0)
    names = {"into.weight": "in_proj.weight", "conv.conv.weight": "conv.weight", "out.weight": "out_proj.weight"}
    own.load_state_dict({name: theirs.state_dict()[other] for name, other in names.items()})
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(own(x, layer_context(length=7)), theirs(x), atol=1e-6, rtol=1e-6)


def test_a_token_sees_itself_and_the_two_before_it() -> None:
    x = torch.randn(1, 8, 6, requires_grad=True)
    ShortConv(6, 2, width=3)(x, layer_context(length=8))[0, 5].sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().sum(-1).nonzero().flatten().tolist() == [3, 4, 5]


def test_a_width_that_sees_no_other_token_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"attention\.width"):
        ShortConv(6, 2, width=1)
