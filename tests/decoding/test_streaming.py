"""Streaming: what is kept, equality with everything computed again from what is kept, bounded memory, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import (
    POSITIONS,
    Letters,
    attention,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    merge,
    model,
    text,
    text_batch,
    text_spec,
)
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.generate import generate
from mmtx.decoding.streaming import Stream, Streaming
from mmtx.decoding.text_in_set import with_text
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import Attention, KeyValueCache
from mmtx.nn.gru import GRU
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.memory_tokens import MemoryTokens
from mmtx.nn.positions import alibi_slopes

CONTEXT = 9
LENGTH = 14
STACKS: dict[str, dict[str, Any]] = {
    **{name: {"positions": POSITIONS[name]} for name in ("none", "learned", "rotary", "alibi")},
    "grouped queries": {"attention": attention(num_kv_heads=1), "positions": POSITIONS["rotary"]},
    "windows": {"positions": POSITIONS["rotary"], "window": 3, "layers": "LG"},
    "windows, alibi": {"positions": POSITIONS["alibi"], "window": 4, "layers": "GL"},
}
CASES = [*((changes, 7, 2) for changes in STACKS.values()), (STACKS["rotary"], 5, 0), (STACKS["rotary"], 2, 1)]


def written(ids: Tensor) -> Batch:
    return with_text(text_batch([1] * len(ids)), "text", ids)


def of_text(changes: dict[str, Any], **more: Any) -> MultimodalTransformer:
    return model({"text": text(text_spec(max_length=CONTEXT))}, backbone(**{**changes, **more})).double()


def some_ids(length: int = LENGTH, samples: int = 2) -> Tensor:
    return text_batch([length] * samples)["text"]["ids"]


def stream(whole: MultimodalTransformer, batch: Batch, size: int, first: int) -> Stream:
    return Stream(whole, batch, "text", Streaming(size, first))


def kept(newest: int, size: int, first: int) -> list[int]:
    """Tokens that the newest one sees, itself among them, in their order."""
    return [t for t in range(newest + 1) if t < first or t > newest - (size - first)]


@torch.no_grad()
def computed_again(whole: MultimodalTransformer, ids: Tensor, size: int, seen_by: Callable[[int], list[int]]) -> Tensor:
    """Hidden states by the definition: token by token and layer by layer, keys and values of all that is kept are
    computed again from what their layer reads, at their places among what is kept."""
    tokenizer, body = whole.tokenizer("text"), whole.backbone
    place = whole.tokenize(written(ids[:, :size])).place
    columns = [tokenizer.embed(ids[:, [t]]) + place[:, [min(t, size - 1)]] for t in range(ids.shape[1])]
    for block, window in zip(body.blocks, body.windows, strict=True):
        outputs = []
        for newest in range(len(columns)):
            seen = block.attention_norm(torch.cat([columns[t] for t in seen_by(newest)], dim=1))
            added = attended(block.attention, seen, body, window)
            x = columns[newest] + added
            outputs.append(x + block.mlp(block.mlp_norm(x)))
        columns = outputs
    return body.final_norm(torch.cat(columns, dim=1))


def attended(layer: Attention, seen: Tensor, body: Any, window: int | None) -> Tensor:
    """What the last of some tokens, whose places are counted from 0, gets of them."""
    own = F.linear(seen, layer.qkv.weight, torch.cat([layer.biases[name] for name in ("query", "key", "value")]))
    q, k, v = (each.unflatten(-1, (-1, layer.head_dim)) for each in own.split(layer.widths, dim=-1))  # (B, n, heads, E)
    place, repeats = torch.arange(seen.shape[1]), layer.num_heads // layer.num_kv_heads
    k, v = (each.repeat_interleave(repeats, dim=2) for each in (k, v))
    if body.positions.rotary is not None:
        q, k = turned(q, place), turned(k, place)
    scores = torch.einsum("bhe,bnhe->bhn", q[:, -1], k) / layer.head_dim**0.5
    distance = place[-1] - place
    if body.position_bias is not None:
        scores = scores - torch.tensor(alibi_slopes(layer.num_heads))[:, None] * distance
    if window is not None:
        scores = scores.masked_fill(distance >= window, float("-inf"))
    return layer.out(torch.einsum("bhn,bnhe->bhe", scores.softmax(-1), v).flatten(1))[:, None]


def turned(x: Tensor, place: Tensor) -> Tensor:
    """Pairs as complex numbers, turned; a third of them by each of time, row and column, which a text does not have."""
    half = x.shape[-1] // 2
    pairs, share = torch.complex(x[..., :half], x[..., half:]), half // 3
    frequency = 10_000.0 ** (-torch.arange(share, dtype=torch.float32) / share)
    angle = (place[:, None].float() * frequency)[:, None]
    angles = torch.cat([angle, angle, torch.zeros_like(angle)], dim=-1)  # their functions are in float32, as a model's
    result = pairs * torch.complex(angles.cos().double(), angles.sin().double())
    return torch.cat([result.real, result.imag], dim=-1)


@pytest.mark.parametrize(("changes", "size", "first"), CASES, ids=[*STACKS, "nothing kept", "one place left"])
@pytest.mark.usefixtures("unchecked")
def test_streamed_is_computed_again_from_what_is_kept(changes: dict[str, Any], size: int, first: int) -> None:
    whole, ids = of_text(changes), some_ids()
    with torch.no_grad():
        once = stream(whole, written(ids), size, first).extend(ids)
        parts = stream(whole, written(ids), size, first)
        several = torch.cat([parts.extend(part) for part in ids.split([1, 4, 3, 1, 5], dim=1)], dim=1)
    expected = computed_again(whole, ids, size, partial(kept, size=size, first=first))
    torch.testing.assert_close(once, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(several, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("changes", [STACKS["alibi"], STACKS["windows"]], ids=["alibi", "windows"])
def test_a_single_layer_is_that_of_the_kept_tokens_alone(changes: dict[str, Any]) -> None:
    """By the model's own forward pass of a text of what is kept; it is also whole as long as nothing is dropped."""
    whole, ids = of_text(changes, num_layers=1), some_ids()
    with torch.no_grad():
        streamed = stream(whole, written(ids), CONTEXT, 3).extend(ids)
        torch.testing.assert_close(streamed[:, :CONTEXT], whole(written(ids[:, :CONTEXT])).hidden, atol=1e-10, rtol=0)
        alone = whole(written(ids[:, kept(LENGTH - 1, CONTEXT, 3)])).hidden[:, -1]
        torch.testing.assert_close(streamed[:, -1], alone, atol=1e-10, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_what_is_seen_is_the_first_and_the_newest() -> None:
    """Of a single layer: every other id may be any without a difference, and every one that is kept makes one."""
    generator = torch.Generator().manual_seed(0)
    whole = of_text(STACKS["rotary"], num_layers=1)
    for _ in range(12):
        size = int(torch.randint(1, CONTEXT + 1, (), generator=generator))
        first = int(torch.randint(0, size, (), generator=generator))
        length = int(torch.randint(1, LENGTH, (), generator=generator))
        ids = some_ids(length, 1).repeat(length + 1, 1)
        ids[torch.arange(length), torch.arange(length)] += 1  # each row has another id in one place
        ids = ids % 11
        with torch.no_grad():
            states = stream(whole, written(ids), size, first).extend(ids)[:, -1]
        change = (states[:-1] - states[-1]).abs().amax(-1)
        assert (change > 1e-9).nonzero()[:, 0].tolist() == kept(length - 1, size, first)


MARKS = (9, 10)


def with_notes(ids: list[int], first: int, most: int, size: int = 8) -> list[list[int]]:
    """Of each token, those that it sees, itself among them: for a new one, the oldest is dropped that is neither first
    nor a note; a note where there are too many."""
    notes, is_open, seen, cached = set(), False, [], []
    for t, token in enumerate(ids):
        is_open = is_open or token == MARKS[0]
        if is_open:
            notes.add(t)
        is_open = is_open and token != MARKS[1]
        if len(cached) == size:
            own = [each for each in cached if each in notes and each >= first]
            others = [each for each in cached if each not in notes and each >= first]
            cached.remove((own if len(own) > most else others)[0])
        cached.append(t)
        seen.append([*cached])
    return seen


@pytest.mark.parametrize("name", ["rotary", "windows, alibi"])
@pytest.mark.usefixtures("unchecked")
def test_notes_stay(name: str) -> None:
    """As everything computed again from what each row keeps: short and long notes, one within a first token, one
    that begins twice, one that never ends; read at once and in parts."""
    whole = of_text(STACKS[name])
    texts = [
        [1, 9, 2, 3, 10, 4, 5, 6, 7, 8, 1, 9, 4, 10, 2, 2, 3, 5, 6, 6, 1],
        [9, 2, 9, 10, 10, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 6],
        [1, 2, 3, 4, 5, 6, 7, 8, 10, 1, 2, 3, 10, 4, 5, 6, 7, 8, 1, 2, 3],
    ]
    ids = torch.tensor(texts)
    for most, first in ((4, 1), (2, 0), (3, 2)):
        streaming = Streaming(8, first, notes=most, note_marks=MARKS)
        with torch.no_grad():
            once = Stream(whole, written(ids), "text", streaming).extend(ids)
            parts = Stream(whole, written(ids.flip(0)), "text", streaming)
            parts.select(torch.tensor([2, 1, 0]))
            several = [parts.extend(part) for part in ids[:, :10].split([1, 4, 5], dim=1)]
            parts.select(torch.tensor([1, 2, 0]))
            several += [parts.extend(ids[[1, 2, 0], 10:])[[2, 0, 1]]]
        torch.testing.assert_close(torch.cat(several, dim=1), once, atol=1e-10, rtol=0)
        for row, text_of in enumerate(texts):
            seen = with_notes(text_of, first, most)
            expected = computed_again(whole, ids[[row]], 8, seen.__getitem__)
            torch.testing.assert_close(once[[row]], expected, atol=1e-10, rtol=0)


def test_marks_of_notes() -> None:
    """Ids, or texts of one id each."""
    streaming = Streaming(8, 1, notes=2, note_marks=["a", "c"])
    assert streaming.mark_ids(Letters("abc", marks=False)) == (0, 2)
    with pytest.raises(
        InvalidValue, match=r"^note_marks=\['a', 'c'\] has texts, and the data no vocabulary; .* two ids"
    ):
        streaming.mark_ids(None)
    with pytest.raises(
        InvalidValue, match=r"^note_marks=\['ab', 1\] has 'ab', which is 2 ids: \[0, 1\]; nearest: texts"
    ):
        Streaming(8, 1, notes=2, note_marks=["ab", 1]).mark_ids(Letters("abc", marks=False))
    for keys, problem in (
        ({"notes": -1}, "notes=-1 must be at least 0"),
        ({"notes": 3}, "note_marks=[] must be two, a beginning and an end"),
        ({"notes": 3, "note_marks": [1, 1]}, "note_marks=[1, 1] must be two, a beginning and an end"),
        ({"note_marks": [1, 2]}, "note_marks=[1, 2] are of notes; give how many tokens they have; nearest: notes=16"),
        (
            {"notes": 7, "note_marks": [1, 2]},
            "notes=7 leaves no place for the newest of the 7 that keep_first=1 leaves",
        ),
        ({"notes": 2, "cache_size": None, "keep_first": 4}, "notes=2 is of a stream; give its cache_size too"),
    ):
        options: dict[str, Any] = {"cache_size": 8, "keep_first": 1, **keys}
        with pytest.raises(InvalidValue, match="^" + re.escape(problem)):
            Streaming(**options)


def test_a_picture_before_the_text_stays() -> None:
    """A single layer again; the second sample has none, and is no longer for that. It is not counted."""
    tokenizers = {"image": image(), "text": text(text_spec(max_length=CONTEXT))}
    whole, ids = model(tokenizers, backbone(positions=POSITIONS["rotary"], num_layers=1)).double(), some_ids()
    batch = merge(image_batch([1, 0]), written(ids))
    with torch.no_grad():
        streamed = stream(whole, batch, 6, 2)
        states = streamed.extend(ids)[:, -1]
        alone = whole(with_text(batch, "text", ids[:, kept(LENGTH - 1, 6, 2)])).tokens("text")[:, -1]
    torch.testing.assert_close(states, alone, atol=1e-10, rtol=0)
    assert streamed.num_cached == 6 + 4


def test_an_encoder_is_attended_to_as_ever() -> None:
    tokenizers = {"image": image(), "text": text(text_spec(max_length=CONTEXT))}
    whole = encoder_decoder(tokenizers, ["image"], positions=POSITIONS["rotary"], num_layers=1).double()
    ids = some_ids()
    batch = merge(image_batch([1, 1]), written(ids))
    with torch.no_grad():
        states = stream(whole, batch, 6, 2).extend(ids)[:, -1]
        alone = whole(with_text(batch, "text", ids[:, kept(LENGTH - 1, 6, 2)])).tokens("text")[:, -1]
    torch.testing.assert_close(states, alone, atol=1e-10, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_a_recurrence_reads_on() -> None:
    """Its state is of all tokens: as if the context were longer."""
    whole, ids = of_text({"attention": GRU}), some_ids()
    longer = model({"text": text(text_spec(max_length=LENGTH))}, backbone(attention=GRU)).double()
    with torch.no_grad():
        streamed, expected = stream(whole, written(ids), 5, 2).extend(ids), longer(written(ids)).hidden
    torch.testing.assert_close(streamed, expected, atol=1e-10, rtol=0)


@pytest.mark.usefixtures("unchecked")
def test_the_cache_is_bounded() -> None:
    whole = of_text(STACKS["grouped queries"])
    streamed = stream(whole, written(some_ids()), 7, 2)

    def in_bytes() -> int:
        caches = [layer.mixer for layer in streamed._cache.layers]
        assert all(isinstance(each, KeyValueCache) for each in caches)
        return sum(buffer.untyped_storage().nbytes() for each in caches for buffer in (each._keys, each._values))

    sizes = []
    with torch.no_grad():
        for _ in range(20):
            streamed.extend(some_ids(1))
            sizes.append((streamed.num_cached, in_bytes()))
    layers, rows, heads, room, width = 2, 2, 1, 16, 12  # room for 7 is made for a multiple of 16
    assert [number for number, _ in sizes] == [*range(1, 8), *[7] * 13]
    assert {size for _, size in sizes} == {2 * layers * rows * heads * room * width * 8}


@pytest.mark.usefixtures("unchecked")
def test_generating_streams() -> None:
    """Greedily far beyond the context, and after a prompt that is longer than the cache; a guided text, too."""
    whole, ids = of_text(STACKS["rotary"]), some_ids()
    embedding = whole.tokenizer("text").embedding.weight

    def logits(hidden: Tensor) -> Tensor:
        return hidden @ embedding.T

    new = generate(whole, logits, written(ids), "text", max_new_tokens=20, streaming=Streaming(6, 2))
    text_of = torch.cat([ids, torch.tensor(new)], dim=1)
    best = logits(computed_again(whole, text_of[:, :-1], 6, partial(kept, size=6, first=2))).argmax(-1)
    assert text_of[:, LENGTH:].tolist() == best[:, LENGTH - 1 :].tolist()

    tokenizers = {"image": image(), "text": text(text_spec(max_length=CONTEXT))}
    both = model(tokenizers, backbone(positions=POSITIONS["rotary"]))
    batch, guidance = merge(image_batch([1, 1]), written(ids)), {"image": 2.0}
    keys: dict[str, Any] = {"max_new_tokens": 20, "guidance": guidance, "streaming": Streaming(6, 2)}
    embedding = both.tokenizer("text").embedding.weight
    assert [len(row) for row in generate(both, logits, batch, "text", **keys)] == [20, 20]


@pytest.mark.parametrize(
    ("size", "first", "message"),
    [
        (0, 0, "cache_size=0 must be at least 1"),
        (-3, 0, "cache_size=-3 must be at least 1"),
        (8, -1, "keep_first=-1 must be at least 0"),
        (4, 4, "keep_first=4 leaves no place for the newest of cache_size=4 tokens; nearest: at most 3"),
        (None, 2, "keep_first=2 is of a stream; give its cache_size too"),
    ],
)
def test_refused_sizes(size: int | None, first: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}$"):
        Streaming(size, first)


def test_refused_streams() -> None:
    ids = some_ids()

    def refused(whole: MultimodalTransformer, batch: Batch, size: int = 5) -> str:
        with pytest.raises(InvalidValue) as error:
            stream(whole, batch, size, 0)
        return str(error.value)

    problem = "is more than the context of 'text', modality.text.context; nearest: at most 9"
    assert refused(of_text(STACKS["learned"]), written(ids), 10) == f"cache_size=10 {problem}"
    before = model({"text": text(text_spec(max_length=CONTEXT)), "image": image()})
    batch = merge(image_batch([1, 1]), written(ids))
    last = "'text' must be causal, the last name of the set and alone on its clock; nearest: null"
    assert refused(before, batch) == f"cache_size=5 cannot be: {last}"
    both = of_text({"attention": attention(), "layers": "GB", "kinds": {"G": LayerKind(), "B": LayerKind(Uncached)}})
    problem = "cannot be: backbone.kinds.B.mixer=Uncached has no cache that tokens can be dropped from; nearest: null"
    assert refused(both, written(ids)) == f"cache_size=5 {problem}"
    texts = {name: text(text_spec(max_length=CONTEXT)) for name in ("before", "text")}
    padded = model(texts, backbone(attention=GRU))
    problem = "cannot be: backbone.attention=GRU would read padding before the text; nearest: null"
    assert refused(padded, merge(text_batch([3, 2], name="before"), written(ids))) == f"cache_size=5 {problem}"
    cut = of_text({"memory_tokens": partial(MemoryTokens, num_tokens=1, segment=3, gradient_segments=None)})
    problem = "cannot be: backbone.memory_tokens computes whole segments; nearest: null"
    assert refused(cut, written(ids)) == f"cache_size=5 {problem}"
    with pytest.raises(InvalidValue, match="^cache_size=5 needs a cache; nearest: cache=true, or cache_size=null$"):
        keys: dict[str, Any] = {"max_new_tokens": 1, "cache": False, "streaming": Streaming(5)}
        generate(of_text({}), lambda hidden: hidden, written(ids), "text", **keys)


class Uncached(Attention):
    """Attention that keeps nothing."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads, **attention().keywords)

    def new_cache(self, capacity: int) -> Any:
        return None
