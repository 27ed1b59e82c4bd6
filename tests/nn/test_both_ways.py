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
from mmtx.nn.backbone import Backbone
from mmtx.nn.both_ways import BothWays
from mmtx.nn.gru import GRU
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.lstm import LSTM
from mmtx.nn.no_feed_forward import NoFeedForward
from mmtx.tokens import Clock

EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}
LENGTHS = [3, 8, 0, 1, 5]


def stack(mixer: Any = GRU, **changes: Any) -> Backbone:
    kinds = {**KINDS, "B": LayerKind(mixer=partial(BothWays, mixer=mixer), residual=changes.pop("residual", True))}
    return backbone(**{"layers": "B", "kinds": kinds, "init_std": 0.1, **changes})


def read(body: Backbone, name: str = "text") -> MultimodalTransformer:
    return model({name: text(causal=False)}, body).double()


def states_and_gradients(whole: MultimodalTransformer, batch: Any) -> tuple[Tensor, list[Tensor | None]]:
    whole.zero_grad()
    states = whole(batch)
    (states.hidden * states.valid[..., None]).sin().sum().backward()
    return states.hidden.detach(), [parameter.grad for parameter in whole.parameters()]


@pytest.mark.parametrize(("mixer", "kind", "part"), [(GRU, nn.GRU, "gru"), (LSTM, nn.LSTM, "lstm")])
def test_it_is_that_of_torch_on_samples_of_unequal_lengths(mixer: Any, kind: Any, part: str) -> None:
    """torch reads packed sequences, so that no padding is there. The stack has nothing besides the mixer."""
    bare = {"residual": False, "norm": nn.Identity, "mlp": NoFeedForward, "num_layers": 1}
    whole, theirs = read(stack(mixer, **bare)), kind(24, 24, batch_first=True, bidirectional=True)
    own = whole.backbone.blocks[0].mixer
    ahead, back = (getattr(each, part).state_dict() for each in (own.forwards, own.backwards))
    theirs.double().load_state_dict({**ahead, **{f"{name}_reverse": value for name, value in back.items()}})
    batch = text_batch([3, 8, 1, 5])
    tokens = whole.tokenize(batch)
    content = (tokens.content + tokens.place).double()
    packed = pack_padded_sequence(content, batch.lengths["text"], batch_first=True, enforce_sorted=False)
    expected, lengths = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    for found in (whole(batch), whole(batch.packed())):
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(found.hidden[row, :length], own.out(expected[row, :length]), **EXACT)


def test_packed_padded_and_alone_are_the_same() -> None:
    """Gradients too; one sample is empty."""
    whole, batch = read(stack(layers="BG")), text_batch(LENGTHS)
    padded, gradients = states_and_gradients(whole, batch)
    packed, of_packed = states_and_gradients(whole, batch.packed())
    torch.testing.assert_close(packed, padded, **EXACT)
    torch.testing.assert_close(of_packed, gradients, **EXACT)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    for row, length in enumerate(LENGTHS):
        alone = whole(batch.select(slice(row, row + 1)))
        torch.testing.assert_close(alone.hidden[0, :length], padded[row, :length], **EXACT)


def test_it_reads_names_of_a_mutual_clock_as_they_stand_without_the_padding_between() -> None:
    tokenizers = {name: text(causal=False, clock="scene") for name in ("source", "text")}
    whole = model(tokenizers, stack(), clocks={"scene": Clock(mutual=True)}).double()
    batch = merge(text_batch([0, 2, 3], seed=1, name="source"), text_batch([4, 1, 4]))
    together = whole(batch)
    assert not together.valid[0, 0], "the first sample begins with padding"
    for row, length in enumerate((4, 1, 4)):
        alone = whole(batch.select(slice(row, row + 1))).tokens("text")[0]
        torch.testing.assert_close(together.tokens("text")[row, :length], alone[:length], **EXACT)


def test_every_token_depends_on_every_other() -> None:
    body = stack(num_layers=1)
    x = torch.randn(1, 5, 24, requires_grad=True)
    connectivity = read(body).tokenize(text_batch([5])).connectivity
    body.float()(x, connectivity)[0, 2].sum().backward()
    assert x.grad is not None and (x.grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    ("tokenizers", "message"),
    [
        ({"text": {}}, "those of 'text' differ in order; set modality.text.causal=false"),
        (
            {"source": {"causal": False}, "text": {"causal": False}},
            "those of source, text differ in order; give them one clock",
        ),
    ],
)
def test_what_lies_behind_a_token_must_be_in_its_sight(tokenizers: Any, message: str) -> None:
    whole = model({name: text(**changes) for name, changes in tokenizers.items()}, stack())
    batches = [text_batch([3], name=name) for name in tokenizers]
    with pytest.raises(InvalidValue, match=f"kinds.B.mixer=BothWays reads tokens from both ends, and {message}"):
        whole.tokenize(batches[0] if len(batches) == 1 else merge(*batches))


def test_it_is_made_of_recurrences() -> None:
    with pytest.raises(InvalidValue, match=r"kinds.B.mixer.mixer=Attention has no state to carry along a sample"):
        stack(attention())
