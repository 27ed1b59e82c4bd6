"""Memory tokens: the stack without them, on each segment by hand, gives the same numbers and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, image, image_batch, merge, model, text, text_batch
from torch import Tensor

from mmtx.attention.rule import Connectivity, Pattern
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.errors import InvalidValue
from mmtx.nn.backbone import Backbone
from mmtx.nn.memory_tokens import MemoryTokens

EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}


def carried(num_tokens: int = 2, segment: int = 3, gradient_segments: int | None = None, gated: bool = False) -> Any:
    keys = {"num_tokens": num_tokens, "segment": segment, "gradient_segments": gradient_segments, "gated": gated}
    return partial(MemoryTokens, **keys)


def stacks(positions: str = "none", **keys: Any) -> tuple[Backbone, Backbone]:
    """One with memory tokens, and one without, of the same weights."""
    own: dict[str, Any] = {"positions": POSITIONS[positions], "init_std": 0.1}
    one, plain = backbone(**own, memory_tokens=carried(**keys)), backbone(**own)
    plain.load_state_dict({name: value for name, value in one.state_dict().items() if "memory_tokens" not in name})
    return one.double(), plain.double()


def causal(length: int) -> Connectivity:
    place = torch.arange(length)[None]
    position = torch.stack([place, torch.zeros_like(place), torch.zeros_like(place)], -1)
    zero = torch.zeros_like(place)
    return Connectivity(place, position, zero, zero == 0, Pattern.CAUSAL, padded=False, packed=False)


def by_hand(one: Backbone, plain: Backbone, x: Tensor, size: int, every: int | None) -> Tensor:
    """Segment after segment through the plain stack; memory is cut off its past every so many segments."""
    own = one.memory_tokens
    assert own is not None
    hidden, count = [], own.num_tokens
    memory = x.new_zeros(len(x), count, x.shape[2])
    for number, part in enumerate(x.split(size, dim=1)):
        if every is not None and number % every == 0:
            memory = memory.detach()
        row = torch.cat([memory + own.read, part, memory + own.write], 1)
        out = plain(row, causal(row.shape[1]))
        hidden.append(out[:, count : count + part.shape[1]])
        written = out[:, count + part.shape[1] :]
        share = 1.0
        if own.gate is not None:
            share = 1 / (1 + torch.exp(-(written @ own.gate.weight.T + own.gate.bias - 5)))
        memory = share * written + (1 - share) * memory
    return torch.cat(hidden, 1)


def test_one_segment_without_memory_is_the_plain_stack_to_the_bit() -> None:
    one, plain = stacks("rotary", num_tokens=0, segment=8)
    x = torch.randn(2, 8, 24, dtype=torch.double)
    assert torch.equal(one(x, causal(8)), plain(x, causal(8)))


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi"])
@pytest.mark.parametrize("length", [3, 6, 8])
def test_segments_are_those_of_a_loop_by_hand(positions: str, length: int) -> None:
    """One segment, two, and two with a part of a third. Angles are in float32."""
    one, plain = stacks(positions)
    x = torch.randn(2, length, 24, dtype=torch.double)
    close = {"atol": 1e-5, "rtol": 1e-5} if positions == "rotary" else EXACT
    torch.testing.assert_close(one(x, causal(length)), by_hand(one, plain, x, 3, None), **close)


def test_a_gate_mixes_what_is_written_into_what_was_read() -> None:
    """A shut one leaves the memory as it is, empty here."""
    one, plain = stacks(gated=True)
    assert one.memory_tokens is not None and one.memory_tokens.gate is not None
    x = torch.randn(2, 8, 24, dtype=torch.double)
    torch.testing.assert_close(one(x, causal(8)), by_hand(one, plain, x, 3, None), **EXACT)
    with torch.no_grad():
        one.memory_tokens.gate.weight.zero_()
        one.memory_tokens.gate.bias.fill_(-800)
    parts = [one(part, causal(part.shape[1])) for part in x.split(3, dim=1)]
    torch.testing.assert_close(one(x, causal(8)), torch.cat(parts, 1), **EXACT)


def test_segments_without_memory_know_nothing_of_each_other() -> None:
    one, plain = stacks(num_tokens=0)
    x = torch.randn(2, 8, 24, dtype=torch.double)
    alone = torch.cat([plain(part, causal(part.shape[1])) for part in x.split(3, dim=1)], 1)
    torch.testing.assert_close(one(x, causal(8)), alone, **EXACT)


@pytest.mark.parametrize("every", [1, 2, None])
def test_gradients_go_through_so_many_segments(every: int | None) -> None:
    one, plain = stacks(gradient_segments=every)
    x = torch.randn(2, 12, 24, dtype=torch.double, requires_grad=True)
    found = torch.autograd.grad(one(x, causal(12))[:, -1].sin().sum(), x)[0]
    expected = torch.autograd.grad(by_hand(one, plain, x, 3, every)[:, -1].sin().sum(), x)[0]
    torch.testing.assert_close(found, expected, **EXACT)
    reached = found.abs().sum((0, 2)).unflatten(0, (4, 3)).sum(1) > 0
    assert reached.tolist() == {1: [False, False, False, True], 2: [False, False, True, True], None: [True] * 4}[every]


def test_packed_padded_and_alone_are_the_same() -> None:
    """Gradients too; one sample is empty, and some end within a segment."""
    one = stacks()[0]
    whole, lengths = model({"text": text()}, one).double(), [3, 8, 0, 1, 5, 6]
    batch, found = text_batch(lengths), []
    for each in (batch, batch.packed()):
        whole.zero_grad()
        states = whole(each)
        (states.hidden * states.valid[..., None]).sin().sum().backward()
        gradients = {name: parameter.grad for name, parameter in whole.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        found.append((states.hidden * states.valid[..., None], gradients))
    torch.testing.assert_close(found[0], found[1], **EXACT)
    for row, length in enumerate(lengths):
        alone = whole(batch.select(slice(row, row + 1)))
        torch.testing.assert_close(alone.hidden[0, :length], found[0][0][row, :length], **EXACT)


def test_a_batch_without_tokens_has_gradients_of_all_parameters() -> None:
    whole = model({"text": text()}, stacks()[0]).double()
    whole(text_batch([0, 0]).packed()).hidden.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in whole.parameters())


def test_names_of_several_clocks_are_cut_in_the_order_of_time() -> None:
    """A text behind another, which padding does not part."""
    whole = model({"source": text(), "text": text()}, stacks()[0]).double()
    batch = merge(text_batch([0, 2, 3], seed=1, name="source"), text_batch([4, 1, 4]))
    together = whole(batch)
    for row, length in enumerate((4, 1, 4)):
        alone = whole(batch.select(slice(row, row + 1))).tokens("text")[0]
        torch.testing.assert_close(together.tokens("text")[row, :length], alone[:length], **EXACT)


def test_a_text_is_written_by_computing_it_again() -> None:
    whole = model({"text": text()}, stacks()[0]).double()
    ids = text_batch([2, 2])
    decoder = TextDecoder(whole, partial(torch.mul, other=1.0), ids, "text", start=2, stop=8, cache=True)
    with torch.no_grad():
        for _ in range(5):
            scores = decoder.scores().reshape(2, -1, 24)[:, -1]
            written = decoder.written
            expected = whole(ids.with_name("text", {"ids": written}, torch.tensor([written.shape[1]] * 2)))
            torch.testing.assert_close(scores, expected.hidden[:, -1], **EXACT)
            decoder.append(scores.argmax(-1) % 11)


def test_what_has_no_order_and_what_is_attended_to_are_refused() -> None:
    own = {"memory_tokens": carried()}
    with pytest.raises(InvalidValue, match=r"memory_tokens.segment=3 cuts the order of time, and .* 'image' share"):
        model({"image": image()}, backbone(**own)).tokenize(image_batch([1]))
    with pytest.raises(InvalidValue, match=r"memory_tokens.segment=3 cuts texts that attend to what is encoded"):
        backbone(cross_attention=True, **own)


@pytest.mark.parametrize("key", ["num_tokens", "segment", "gradient_segments"])
def test_numbers_have_their_least(key: str) -> None:
    with pytest.raises(InvalidValue, match=rf"memory_tokens.{key}=-1 must be at least"):
        backbone(memory_tokens=carried(**{key: -1}))
