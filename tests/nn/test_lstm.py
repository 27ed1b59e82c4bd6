"""The LSTM against torch's, and its forget gate at the start."""

import torch
from builders import backbone, layer_context
from torch import nn

from mmtx.nn.lstm import LSTM
from mmtx.nn.roles import roles_of


def test_it_is_that_of_torch() -> None:
    own, theirs = LSTM(6, 2), nn.LSTM(6, 6, batch_first=True)
    theirs.load_state_dict(own.lstm.state_dict())
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(own(x, layer_context(length=7)), theirs(x)[0], atol=1e-5, rtol=1e-5)


def test_its_forget_gate_begins_open() -> None:
    """In a stack, which draws initial weights anew."""
    own = backbone(attention=LSTM, num_layers=1).blocks[0].mixer.lstm
    gates = (own.bias_ih_l0 + own.bias_hh_l0).view(4, 24)
    assert gates.unique(dim=1).squeeze(1).tolist() == [0.0, 1.0, 0.0, 0.0], "input, forget, cell, output"


def test_its_parameters_have_roles() -> None:
    roles = roles_of(LSTM(6, 2))
    assert roles["lstm.weight_hh_l0"] == "matrix" and roles["lstm.bias_ih_l0"] == "state"
