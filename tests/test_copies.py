"""Copies of a name: a text that is noisy and clean in one set, who attends to whom there, and what each copy sees."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    merge,
    model,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
)
from torch import Tensor

from mmtx.attention.kernels import Causal
from mmtx.batch import Batch
from mmtx.copies import Copy, in_place
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.errors import InvalidValue
from mmtx.modalities.image import Image
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned, Positions
from mmtx.nn.rotary import Rotary
from mmtx.tokens import Clock, HiddenStates, Tokens

MASK = 10
ROW = Positions(absolute=None, rotary=Rotary(axes=["row"], base=10_000.0), bias=None)
"""Rotary positions that read the index of a token in its text."""
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def blocks(length: int, size: int) -> Tensor:
    return torch.arange(length)[None] // size


def hidden_places(ids: Tensor) -> Tensor:
    """The ids, every other of which is the mask."""
    return torch.where(torch.arange(ids.shape[1]) % 2 == 0, MASK, ids)


def noisy_and_clean(batch: Batch, size: int) -> dict[str, Copy]:
    ids = batch["text"]["ids"]
    times = blocks(ids.shape[1], size)
    noisy = Copy("text", {"ids": hidden_places(ids)}, times, private=True)
    return {"noisy": noisy, "clean": Copy("text", times=times)}


def run(whole: MultimodalTransformer, batch: Batch, size: int) -> HiddenStates:
    return whole.run(whole.tokenize(batch, copies=noisy_and_clean(batch, size)))


def text_model(positions: Positions = ROW, **changes: Any) -> MultimodalTransformer:
    return model({"text": text()}, backbone(positions=positions, **changes))


def image_and_text(positions: Positions = ROW, **changes: Any) -> MultimodalTransformer:
    body = backbone(positions=positions, **changes)
    return model({"image": image(summary=True), "text": text()}, body)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("length", [1, 6])
def test_the_mask_of_block_diffusion(length: int, size: int) -> None:
    """The three terms of Arriola et al. 2025 (arXiv 2503.09573, section 3.2), noisy tokens first."""
    in_block = torch.arange(length).tolist() * 2
    in_block = [index // size for index in in_block]
    is_clean = [False] * length + [True] * length

    def may_attend(i: int, j: int) -> bool:
        block_diagonal = in_block[i] == in_block[j] and is_clean[i] == is_clean[j]
        offset_block_causal = in_block[i] > in_block[j] and not is_clean[i] and is_clean[j]
        block_causal = in_block[i] >= in_block[j] and is_clean[i] and is_clean[j]
        return block_diagonal or offset_block_causal or block_causal

    expected = [[may_attend(i, j) for j in range(2 * length)] for i in range(2 * length)]
    batch = text_batch([length, length])
    connectivity = text_model().tokenize(batch, copies=noisy_and_clean(batch, size)).connectivity
    assert connectivity.order[0].tolist() == [2 * b + c for b, c in zip(in_block, is_clean, strict=True)]
    assert connectivity.dense()[0].tolist() == expected
    assert connectivity.reference()[0].tolist() == expected


def test_clean_blocks_of_one_id_are_a_causal_text() -> None:
    """They see nothing of the noisy copy."""
    whole, batch = text_model(), text_batch([6, 4])
    assert isinstance(whole.tokenize(batch).connectivity.render(), Causal)
    expected = whole(batch).tokens("text")
    torch.testing.assert_close(run(whole, batch, size=1).tokens("clean"), expected, **CLOSE)


def test_one_noisy_block_is_a_bidirectional_text() -> None:
    whole, batch = text_model(), text_batch([6, 4])
    both_ways = model({"text": text(causal=False)}, backbone(positions=ROW))
    both_ways.load_state_dict(whole.state_dict())
    noisy = batch.with_values("text", ids=hidden_places(batch["text"]["ids"]))
    torch.testing.assert_close(run(whole, batch, size=6).tokens("noisy"), both_ways(noisy).tokens("text"), **CLOSE)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", POSITIONS)
def test_all_noisy_blocks_at_once_are_each_behind_its_clean_past(name: str, size: int) -> None:
    """As a sampler computes them, one block after another."""
    whole, batch = text_model(ROW if name == "rotary" else POSITIONS[name]), text_batch([6])
    ids, at_once = batch["text"]["ids"], run(whole, batch, size).tokens("noisy")
    for start in range(0, 6, size):
        stop = min(start + size, 6)
        written = torch.cat([ids[:, :start], hidden_places(ids)[:, start:stop]], dim=1)
        alone = batch.with_name("text", {"ids": written}, torch.tensor([stop]), full=True)
        copies = {"text": Copy("text", times=blocks(stop, size))}
        states = whole.run(whole.tokenize(alone, copies=copies))
        torch.testing.assert_close(states.tokens("text")[:, start:], at_once[:, start:stop], **CLOSE)


def test_rotary_rows_tell_the_tokens_of_a_block_apart() -> None:
    """Tokens of one block share the time of their clock, and have an index of their own in the text."""
    for positions, apart in ((ROW, True), (Positions(None, Rotary(axes=["time"], base=100.0), None), False)):
        whole = text_model(positions)
        batch = text_batch([4])
        batch = batch.with_values("text", ids=torch.full((1, 4), 3))
        context = torch.tensor([[5, 3, 3, 3]])
        states = whole.run(
            whole.tokenize(batch, copies={"text": Copy("text", {"ids": context}, times=blocks(4, 4))})
        ).tokens("text")
        assert torch.allclose(states[:, 1], states[:, 3], atol=1e-6) != apart


@pytest.mark.parametrize("size", [2, 4])
def test_rotary_positions_by_the_index_of_a_token(size: int) -> None:
    """A text behind a picture, and steps without coordinates, against angles of time that were put there by hand."""
    of_texts = merge(image_batch([1, 0]), text_batch([6, 4]))
    copies = noisy_and_clean(of_texts, size)
    behind = [[0, 1, 2, 3, 4] + 2 * [5, 6, 7, 8, 9, 10], [0, 1, 2, 3, 4] + 2 * [0, 1, 2, 3, 4, 5]]
    _assert_turned({"image": image(summary=True), "text": text()}, of_texts, copies, behind)
    of_steps = steps_batch({"action": series_spec()}, [4, 4])
    times = blocks(4, size)
    copies = {"noisy": Copy("action", times=times, private=True), "clean": Copy("action", times=times)}
    _assert_turned({"action": series(series_spec(num_times=20))}, of_steps, copies, [2 * [0, 1, 2, 3]])


def _assert_turned(tokenizers: dict[str, Any], batch: Batch, copies: dict[str, Copy], index: list[list[int]]) -> None:
    by_index, by_time = (
        model(tokenizers, backbone(positions=Positions(None, Rotary(axes=[axis], base=100.0), None)))
        for axis in ("index", "time")
    )
    token_set = by_time.tokenize(batch, copies=copies)
    connectivity = token_set.connectivity
    position = connectivity.position.expand(len(index), -1, -1).clone()
    position[..., 0] = torch.tensor(index)
    expected = by_time.run(replace(token_set, connectivity=replace(connectivity, position=position))).hidden
    torch.testing.assert_close(by_index.run(by_index.tokenize(batch, copies=copies)).hidden, expected, **CLOSE)
    assert not torch.allclose(by_time.run(token_set).hidden, expected, **CLOSE)


@pytest.mark.parametrize("name", ["learned", "rotary", "index", "alibi", "t5"])
@pytest.mark.parametrize("window", [None, 2])
def test_packed_padded_and_alone_are_the_same(name: str, window: int | None) -> None:
    """Hidden states and gradients, where samples lack the picture, the text, or everything."""
    changes: dict[str, Any] = {"window": window, "layers": "G" if window is None else "LG"}
    whole = image_and_text(POSITIONS[name], **changes)
    batch = merge(image_batch([1, 1, 0, 1, 0]), text_batch([5, 3, 2, 0, 0]))
    results = []
    for arranged in (batch, batch.packed()):
        whole.zero_grad()
        states = run(whole, arranged, size=2)
        weight = torch.linspace(-1, 1, states.hidden.numel()).view_as(states.hidden)
        (states.hidden * weight).sum().backward()
        results.append((states, [p.grad for p in whole.parameters() if p.grad is not None]))
    (padded, padded_grads), (packed, packed_grads) = results
    torch.testing.assert_close(packed.hidden, padded.hidden, **CLOSE)
    assert len(padded_grads) == len(packed_grads) == len(list(whole.parameters()))
    for one, other in zip(padded_grads, packed_grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for sample, length in enumerate([5, 3, 2]):
        alone = run(whole, batch.select(slice(sample, sample + 1)), size=2)
        for key in ("noisy", "clean"):
            together = padded.tokens(key)[sample, :length]
            torch.testing.assert_close(together, alone.tokens(key)[0, :length], **CLOSE)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("in_a_packed_row", [False, True])
def test_flex_attention_gives_the_same(in_a_packed_row: bool) -> None:
    batch = merge(image_batch([1, 0, 1]), text_batch([5, 3, 0]))
    with torch.no_grad():
        expected = run(image_and_text(), batch, size=2).hidden
        hidden = run(image_and_text(flex=True), batch.packed() if in_a_packed_row else batch, size=2).hidden
    torch.testing.assert_close(hidden, expected, **CLOSE)


def test_copies_share_type_and_place_but_not_their_clocks_time() -> None:
    tokenizers = {"action": series(series_spec(num_times=20))}
    whole = model(tokenizers, backbone(positions=POSITIONS["learned"]), clocks={"step": Clock(embedding=Learned)})
    batch = steps_batch({"action": series_spec()}, [4])
    copies = {"noisy": Copy("action", times=torch.tensor([[0, 0, 9, 9]]), private=True), "action": Copy("action")}
    token_set = whole.tokenize(batch, copies=copies)
    noisy, clean = token_set.place[0, :4], token_set.place[0, 4:]
    table = whole.clock_embeddings["step"].table.weight
    torch.testing.assert_close(noisy, whole.type_embeddings["action"] + table[[0, 0, 9, 9]])
    torch.testing.assert_close(clean, whole.type_embeddings["action"] + table[:4])
    assert token_set.content[:, :4].equal(token_set.content[:, 4:])


def test_a_clock_goes_on_behind_the_times_of_copies() -> None:
    """A caption begins after the last time that its own sample has, which only the device knows."""
    whole = model({"text": text(), "image": image()}, backbone())
    batch = merge(text_batch([5, 2]), image_batch([1, 1]))
    token_set = whole.tokenize(batch, copies={"text": Copy("text", times=blocks(5, 2))})
    assert token_set.connectivity.position[:, 5, 0].tolist() == [3, 1]


def test_copies_stand_in_the_place_of_their_name() -> None:
    one, other = Copy("b"), Copy("b", private=True)
    assert in_place("abc", {}) == {name: Copy(name) for name in "abc"}
    assert list(in_place("abc", {"z": one, "b": other})) == ["a", "z", "b", "c"]


def test_a_name_that_a_batch_lacks_has_no_copies() -> None:
    whole, batch = image_and_text(), image_batch([1, 1])
    states = whole.run(whole.tokenize(batch, copies={"noisy": Copy("text", private=True), "clean": Copy("text")}))
    assert list(states.spans) == ["image"]


@pytest.mark.parametrize(
    ("copies", "problem"),
    [
        ({"noisy": Copy("audio")}, "copy 'noisy' is of 'audio', and the set that attends has image, text"),
        ({"image": Copy("text")}, "copy 'image' of 'text' has the key of another name of the set"),
        ({"noisy": Copy("text", times=blocks(3, 1))}, "a copy of 'text' has 3 times for 5 tokens"),
    ],
)
def test_what_is_wrong_with_copies_is_said(copies: dict[str, Copy], problem: str) -> None:
    batch = merge(image_batch([1, 1]), text_batch([5, 2]))
    with pytest.raises(ValueError, match=problem):
        image_and_text().tokenize(batch, copies=copies)


def test_what_is_encoded_has_no_copies() -> None:
    whole = encoder_decoder({"image": image(), "text": text()}, ["image"])
    batch = merge(image_batch([1, 1]), text_batch([5, 2]))
    with pytest.raises(ValueError, match="copy 'noisy' is of 'image', and the set that attends has text"):
        whole.tokenize(batch, copies={"noisy": Copy("image", private=True)})
    states = run(whole, batch, size=2)  # copies of the text attend to it
    assert states.tokens("noisy").shape == states.tokens("clean").shape == (2, 5, 24)


def test_copies_on_a_mutual_clock_are_refused() -> None:
    whole = model({"image": image(clock="scene")}, clocks={"scene": Clock(mutual=True)})
    with pytest.raises(InvalidValue, match=r"clocks.scene.mutual=True lets copies of 'image' attend to each other"):
        whole.tokenize(image_batch([1]), copies={"noisy": Copy("image", private=True), "clean": Copy("image")})


class Scratch(Image):
    """A picture that nothing after it may attend to."""

    def forward(self, *args: Any) -> Tokens:
        return replace(super().forward(*args), private=True)


def test_a_cached_text_behind_private_tokens() -> None:
    """Every id computed once gives what all computed again gives, and nothing of the private tokens."""
    keys: dict[str, Any] = {"patch_size": 4, "summary": False, "num_registers": 0, "mean": 0.5, "std": 0.5}
    body = backbone(positions=POSITIONS["rotary"])
    scratch = Scratch(spec=image().spec, dim=24, clock=None, **keys)
    whole = model({"scratch": scratch, "image": image(), "text": text()}, body)
    words, picture = text_batch([5, 5]), image_batch([1, 1])
    results = []
    for seed, cache in ((1, False), (1, True), (2, True)):
        batch = merge(image_batch([1, 1], seed=seed, name="scratch"), picture, words)
        decoder = TextDecoder(whole, partial(torch.mul, other=1.0), batch, "text", start=2, stop=6, cache=cache)
        scores = []
        with torch.no_grad():
            for column in range(2, 5):
                scores.append(decoder.scores().reshape(2, -1, 24)[:, -1])
                decoder.append(words["text"]["ids"][:, column])
        results.append(torch.stack(scores))
    torch.testing.assert_close(results[1], results[0], **CLOSE)
    torch.testing.assert_close(results[2], results[0], **CLOSE)
