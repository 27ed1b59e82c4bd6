"""A recurrence from both ends of a sample, against torch's bidirectional ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import KINDS, attention, backbone, merge, model, text, text_batch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.both_ways import BothWays
from mmtx.nn.gru import GRU
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.lstm import LSTM
from mmtx.tokens import Clock

EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}
BOTH = LayerKind(mixer=partial(BothWays, mixer=GRU))
LENGTHS = [3, 8, 0, 1, 5]


def made(layers: str = "BB", causal: bool = False) -> MultimodalTransformer:
    body = backbone(layers=layers, kinds={**KINDS, "B": BOTH}, init_std=0.1)
    return model({"text": text(causal=causal)}, body).double()


def states_and_gradients(whole: MultimodalTransformer, batch: Any) -> tuple[Tensor, list[Tensor | None]]:
    whole.zero_grad()
    states = whole(batch)
    (states.hidden * states.valid[..., None]).sin().sum().backward()
    return states.hidden.detach(), [parameter.grad for parameter in whole.parameters()]


@pytest.mark.parametrize(("mixer", "kind", "part"), [(GRU, nn.GRU, "gru"), (LSTM, nn.LSTM, "lstm")])
def test_it_is_that_of_torch_on_samples_of_unequal_lengths(mixer: Any, kind: Any, part: str) -> None:
    """torch reads packed sequences, whose padding it never sees."""
    whole = model({"text": text(causal=False)}, backbone(num_layers=1, kinds={"G": LayerKind(mixer=mixer)}))
    del whole
    kinds = {"G": LayerKind(mixer=partial(BothWays, mixer=mixer), residual=False)}
    body = backbone(num_layers=1, kinds=kinds, norm=nn.Identity, mlp=None_, final_norm=False, init_std=0.1).double()
    whole, theirs = model({"text": text(causal=False)}, body).double(), kind(24, 24, batch_first=True, bidirectional=True)
    own = body.blocks[0].mixer
    ahead, back = (getattr(each, part).state_dict() for each in (own.forwards, own.backwards))
    theirs.load_state_dict({**ahead, **{f"{name}_reverse": value for name, value in back.items()}})
    batch = text_batch([3, 8, 1, 5])
    tokens = whole.tokenize(batch)
    packed = pack_padded_sequence(
        tokens.content + tokens.place, batch.lengths["text"], batch_first=True, enforce_sorted=False
    )
    expected, lengths = pad_packed_sequence(theirs.double()(packed)[0], batch_first=True)
    found = whole(batch).tokens("text")
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length], own.out(expected[row, :length]), **EXACT)
