"""Decoding of texts, greedily, by sampling and by beam search: with and without a cache alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache as computed_once
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from builders import (
    POSITIONS,
    attention,
    backbone,
    batch_of,
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
from mmtx.decoding import text_decoder
from mmtx.decoding.beam_search import Hypothesis, beam_search, check_search
from mmtx.decoding.generate import check_max_new_tokens, generate
from mmtx.decoding.replayed import Replayed
from mmtx.decoding.sampling import GREEDY, Sampling
from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer
from mmtx.tokens import Clock

CONTEXT = 10
BACKBONES: dict[str, dict[str, Any]] = {
    **{name: {"positions": positions} for name, positions in POSITIONS.items()},
    "grouped queries": {"attention": attention(num_kv_heads=1), "positions": POSITIONS["rotary"]},
    "windows": {"positions": POSITIONS["learned"], "window": 3, "layers": "LG"},
    "windows, t5": {"positions": POSITIONS["t5"], "window": 2, "layers": "L"},
}
backbones = pytest.mark.parametrize("changes", BACKBONES.values(), ids=BACKBONES.keys())


def words(**changes: Any) -> Text:
    return text(text_spec(max_length=CONTEXT), **changes)


def prompts(length: int, samples: int = 2, seed: int = 0, name: str = "text") -> Batch:
    return text_batch([length] * samples, seed=seed, name=name)


def tied_logits(whole: MultimodalTransformer, name: str = "text") -> Callable[[Tensor], Tensor]:
    """Scores by the text's own embedding."""
    tokenizer = whole.tokenizer(name)
    assert isinstance(tokenizer, Text)
    return lambda hidden: hidden @ tokenizer.embedding.weight.T


class Recorder:
    """Scores by the text's own embedding, and keeps those of what follows the newest id."""

    def __init__(self, whole: MultimodalTransformer, name: str = "text") -> None:
        self.logits = tied_logits(whole, name)
        self.scores: list[Tensor] = []

    def __call__(self, hidden: Tensor) -> Tensor:
        scores = self.logits(hidden)
        self.scores.append(scores[:, 0])
        return scores


@contextmanager
def replaying() -> Iterator[list[Replayed]]:
    """Steps are computed as a GPU replays them; gives those that were."""
    steps: list[Replayed] = []

    def recorded(self: Replayed) -> Any:
        steps.append(self)
        return SimpleNamespace(replay=lambda: setattr(self, "_hidden", self._step(self._ids, self._column)))

    with patch.object(text_decoder, "can_replay", lambda device: True), patch.object(Replayed, "_recorded", recorded):
        yield steps


def first_scores(whole: MultimodalTransformer, batch: Batch) -> Tensor:
    """What the first id is drawn from."""
    logits = Recorder(whole)
    generate(whole, logits, batch, "text", max_new_tokens=1, cache=False)
    return logits.scores[0]


def assert_cache_changes_nothing(
    whole: MultimodalTransformer, batch: Batch, name: str = "text", max_new_tokens: int = CONTEXT + 3
) -> Tensor:
    """Greedy and sampled, token for token; and the scores that they are drawn from. Gives the first scores."""

    def write(sampling: Sampling, cache: bool) -> tuple[list[list[int]], Tensor]:
        logits, generator = Recorder(whole, name), torch.Generator().manual_seed(3)
        keys: dict[str, Any] = {"sampling": sampling, "generator": generator, "cache": cache}
        written = generate(whole, logits, batch, name, max_new_tokens=max_new_tokens, **keys)
        return written, torch.stack(logits.scores)

    for sampling in (Sampling(temperature=1.0, top_k=8, top_p=0.95), GREEDY):
        computed, scores = write(sampling, cache=False)
        with replaying():
            replayed = write(sampling, cache=True)
        for written, found in (write(sampling, cache=True), replayed):
            assert written == computed
            torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)
        assert [len(row) for row in computed] == [max_new_tokens] * len(batch)
    return scores[0]


def test_a_step_is_recorded_once() -> None:
    """Until a text is cropped; and a search, whose rows change, goes on without."""
    whole = model({"text": words()}, backbone(positions=POSITIONS["rotary"]))
    with replaying() as steps:
        generate(whole, tied_logits(whole), prompts(3), "text", max_new_tokens=2 * CONTEXT)
        assert len(steps) == 1
        beam_search(
            whole, tied_logits(whole), prompts(3), "text", beam_size=2, length_penalty=0.0, end=99, max_new_tokens=5
        )
        assert len(steps) == 1


@backbones
def test_causal_text(changes: dict[str, Any]) -> None:
    """Within the context, across its end, and beyond."""
    whole = model({"text": words()}, backbone(**changes))
    assert_cache_changes_nothing(whole, prompts(3))


@backbones
@pytest.mark.usefixtures("unchecked")
def test_a_caption_of_a_picture(changes: dict[str, Any]) -> None:
    """The picture is a prefix; the second sample has none, so that its text begins earlier in time."""
    torch.manual_seed(0)
    whole = model({"image": image(summary=True, num_registers=1), "text": words()}, backbone(**changes))
    batch = merge(image_batch([1, 0]), prompts(2))
    first, second = assert_cache_changes_nothing(whole, batch)
    batch["image"]["pixels"][:1] = 255 - batch["image"]["pixels"][:1]
    other, same = first_scores(whole, batch)
    assert not torch.allclose(other, first, atol=1e-3), "the picture changes the scores"
    assert same.equal(second)


def test_a_translation_of_a_padded_source() -> None:
    torch.manual_seed(0)
    tokenizers = {"source": words(causal=False), "text": words()}
    whole = model(tokenizers, backbone(positions=POSITIONS["rotary"]))
    source = text_batch([5, 2, 0], name="source")
    assert_cache_changes_nothing(whole, merge(source, prompts(1, samples=3)))


@pytest.mark.parametrize("mutual", [False, True])
def test_two_texts_on_one_clock(mutual: bool) -> None:
    """Earlier tokens may attend to new ones, so that a cache would be out of date."""
    torch.manual_seed(0)
    tokenizers = {"source": words(clock="step"), "text": words(clock="step")}
    whole = model(tokenizers, clocks={"step": Clock(mutual=mutual)})
    assert_cache_changes_nothing(whole, merge(prompts(8, name="source"), prompts(2, seed=1)), max_new_tokens=6)


def test_a_text_that_does_not_stand_last() -> None:
    torch.manual_seed(0)
    whole = model({"text": words(), "image": image()})
    assert_cache_changes_nothing(whole, merge(prompts(2), image_batch([1, 1])))


def test_a_bidirectional_text() -> None:
    whole = model({"text": words(causal=False)}, backbone(positions=POSITIONS["learned"]))
    assert_cache_changes_nothing(whole, prompts(2), max_new_tokens=5)


@dataclass(frozen=True)
class Recorded(Sampling):
    """Remembers what it draws from."""

    drawn_from: list[Tensor] = field(default_factory=list)

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        self.drawn_from.append(logits)
        return super().draw(logits, generator)


SETS: dict[str, Callable[[dict[str, Any]], tuple[MultimodalTransformer, Batch]]] = {
    "text": lambda changes: (model({"text": repetitive()}, backbone(**changes)), prompts(5, samples=1)),
    "caption": lambda changes: (
        model({"image": image(), "text": repetitive()}, backbone(**changes)),
        merge(image_batch([1]), prompts(5, samples=1)),
    ),
    "translation": lambda changes: (
        encoder_decoder({"source": words(causal=False), "text": repetitive()}, ["source"], **changes),
        merge(text_batch([4], name="source"), prompts(5, samples=1)),
    ),
}


def repetitive() -> Text:
    return text(text_spec(max_length=24))


@backbones
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("make", SETS.values(), ids=SETS.keys())
def test_a_text_alone_is_computed_ahead(changes: dict[str, Any], make: Any) -> None:
    """Token for token and score for score as one by one."""
    torch.manual_seed(1)
    whole, batch = make({"init_std": 0.3, **changes})
    results = []
    for cache in (True, False):
        logits, sampling = Recorder(whole), Recorded(temperature=0.3)
        generator = torch.Generator().manual_seed(3)
        written = generate(
            whole, logits, batch, "text", max_new_tokens=24, sampling=sampling, generator=generator, cache=cache
        )
        results.append((written, torch.stack(sampling.drawn_from), len(logits.scores)))
    (ahead, ahead_scores, calls), (one_by_one, scores, all_calls) = results
    assert ahead == one_by_one
    torch.testing.assert_close(ahead_scores, scores, atol=1e-4, rtol=1e-4)
    assert calls <= all_calls == 24


def test_a_text_that_repeats_itself_takes_few_calls() -> None:
    """It is drafted 15 ids ahead, as far as there is room."""
    whole = model({"text": text(text_spec(max_length=40))}, backbone(positions=POSITIONS["learned"]))
    columns: list[int] = []

    def always_three(hidden: Tensor) -> Tensor:
        columns.append(hidden.shape[1])
        return torch.nn.functional.one_hot(torch.full(hidden.shape[:2], 3), 11).float()

    assert generate(whole, always_three, prompts(1, samples=1), "text", max_new_tokens=41) == [[3] * 41]
    assert columns == [1, 1, 1, 16, 16, 5, 1]


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1, 2 * CONTEXT])
def test_prompts_of_any_length(length: int) -> None:
    whole = model({"text": words()}, backbone(positions=POSITIONS["learned"]))
    assert_cache_changes_nothing(whole, prompts(length), max_new_tokens=3)


def test_beyond_the_context_the_oldest_ids_are_cropped() -> None:
    """Only the last ids that fit are in the set, at the positions of the first ones."""
    whole = model({"text": words()}, backbone(positions=POSITIONS["learned"]))
    logits = Recorder(whole)
    batch = prompts(CONTEXT + 4)
    generate(whole, logits, batch, "text", max_new_tokens=1)
    cropped = batch.with_name(
        "text", {"ids": batch["text"]["ids"][:, -CONTEXT:]}, torch.tensor([CONTEXT, CONTEXT]), full=True
    )
    torch.testing.assert_close(logits.scores[0], tied_logits(whole)(whole(cropped).tokens("text")[:, -1]))


def test_greedy_takes_the_best_after_all_before() -> None:
    """Against a loop that computes everything anew, by hand."""
    whole = model({"text": words()}, backbone(positions=POSITIONS["rotary"]))
    batch = prompts(2)
    ids = batch["text"]["ids"]
    with torch.no_grad():
        for _ in range(6):
            full = batch_of({"text": {"ids": ids}}, {"text": [ids.shape[1]] * 2})
            scores = tied_logits(whole)(whole(full).tokens("text")[:, -1])
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
    assert generate(whole, Recorder(whole), batch, "text", max_new_tokens=6) == ids[:, 2:].tolist()


def test_one_seed_one_text() -> None:
    whole = model({"text": words()}, backbone(init_std=0.01))

    def write(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(
            whole,
            Recorder(whole),
            prompts(1),
            "text",
            max_new_tokens=9,
            sampling=Sampling(),
            generator=generator,
        )

    assert write(1) == write(1)
    assert write(1) != write(2)


def scripted(script: list[list[int]], vocab_size: int = 11) -> Callable[[Tensor], Tensor]:
    """Scores that make greedy decoding write the script, a list of ids per sample."""
    steps = iter(zip(*script, strict=True))
    return lambda hidden: torch.nn.functional.one_hot(torch.tensor(next(steps)), vocab_size).float()[:, None]


@pytest.mark.parametrize("cache", [True, False])
def test_the_end_ends_a_text(cache: bool) -> None:
    """Each sample's at its own time; what the model predicts after that is ignored."""
    whole = model({"text": words()})
    script = [[4, 10, 3, 3], [5, 6, 7, 10], [10, 2, 2, 2]]
    written = generate(
        whole, scripted(script), prompts(1, samples=3), "text", max_new_tokens=9, end=10, cache=cache
    )  # a fifth step would run out of script
    assert written == [[4], [5, 6, 7], []]


def test_the_id_that_ended_a_text_is_kept_where_it_is_wanted() -> None:
    """Of several, the one that came; a text at its limit has none."""
    script = [[4, 10, 3], [5, 9, 7], [1, 2, 3]]
    keys: Any = {"max_new_tokens": 3, "end": [10, 9], "keep_end": True}
    written = generate(model({"text": words()}), scripted(script), prompts(1, samples=3), "text", **keys)
    assert written == [[4, 10], [5, 9], [1, 2, 3]]


def test_without_an_end_texts_go_on() -> None:
    whole = model({"text": words()})
    assert generate(whole, scripted([[10, 10, 1]]), prompts(1, 1), "text", max_new_tokens=3) == [[10, 10, 1]]
    assert generate(whole, scripted([[]]), prompts(1, 1), "text", max_new_tokens=0) == [[]]


def test_prompts_have_a_token() -> None:
    whole = model({"text": words()})
    for lengths in ([3, 0], [0, 0]):
        with pytest.raises(ValueError, match="prompts under 'text' must have at least 1 token"):
            generate(whole, Recorder(whole), text_batch(lengths), "text", max_new_tokens=1)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("end", [None, 4])
def test_prompts_of_unequal_lengths(cache: bool, end: int | None) -> None:
    """A batch writes what each sample would alone."""
    torch.manual_seed(0)
    tokenizers = {"source": words(causal=False), "text": words()}
    whole = model(tokenizers, backbone(positions=POSITIONS["rotary"]))
    batch = merge(text_batch([5, 2, 7, 3], name="source"), text_batch([3, 1, 4, 2], seed=1))
    together = generate(whole, Recorder(whole), batch, "text", max_new_tokens=5, end=end, cache=cache)
    for i, length in enumerate([3, 1, 4, 2]):
        one = batch.select(slice(i, i + 1))
        one = one.with_name("text", {"ids": one["text"]["ids"][:, :length]}, torch.tensor([length]))
        assert generate(whole, Recorder(whole), one, "text", max_new_tokens=5, end=end, cache=cache) == [together[i]]


IDS, LIMIT, END = 4, 3, 3
"""A vocabulary so small that all its texts can be tried."""


@computed_once
def translator(encoded: bool) -> MultimodalTransformer:
    """Of one layer, random, with scores far enough apart to disagree with a greedy choice."""
    spec = text_spec(IDS, max_length=6)
    torch.manual_seed(0)
    tokenizers = {"source": text(spec, causal=False), "text": text(spec)}
    changes: dict[str, Any] = {"num_layers": 1, "init_std": 0.06, "positions": POSITIONS["learned"]}
    return encoder_decoder(tokenizers, ["source"] if encoded else [], encoder=changes, **changes)


def sources(lengths: list[int]) -> Batch:
    """Sources of unequal lengths, one of them absent, and prompts of one id."""
    return merge(text_batch(lengths, IDS, name="source"), text_batch([1] * len(lengths), IDS, seed=1))


def searched(whole: MultimodalTransformer, batch: Batch, **changes: Any) -> list[Hypothesis]:
    keys: dict[str, Any] = {"beam_size": 64, "length_penalty": 0.0, "max_new_tokens": LIMIT, "end": END}
    return beam_search(whole, tied_logits(whole), batch, "text", **{**keys, **changes})


@computed_once
def all_texts(encoded: bool, index: int) -> dict[tuple[int, ...], float]:
    """Log-probability of every text up to the limit after one sample's prompt; the end is part of those that end."""
    whole, batch = translator(encoded), sources([5, 2, 0])
    one = batch.select(slice(index, index + 1))
    unended = [ids for n in range(1, LIMIT + 1) for ids in product([i for i in range(IDS) if i != END], repeat=n)]
    texts = [ids for ids in unended if len(ids) == LIMIT] + [(*ids, END) for ids in [(), *unended] if len(ids) < LIMIT]
    found = {}
    for length in range(1, LIMIT + 1):
        some = [ids for ids in texts if len(ids) == length]
        many = one.select(torch.zeros(len(some), dtype=torch.long))
        written = torch.cat([many["text"]["ids"], torch.tensor(some)], dim=1)
        given = many.with_name("text", {"ids": written[:, :-1]}, torch.full((len(some),), length), full=True)
        with torch.no_grad():
            log_probability = tied_logits(whole)(whole(given).tokens("text")).log_softmax(-1)
        sums = log_probability.gather(2, torch.tensor(some)[..., None]).sum((1, 2))
        found |= dict(zip(some, sums.tolist(), strict=True))
    return found


@pytest.mark.parametrize(("length_penalty", "encoded"), [(0.0, True), (0.6, False), (2.0, True)], ids=str)
def test_a_wide_beam_finds_the_best_of_all_texts(length_penalty: float, encoded: bool) -> None:
    """Every text is tried, after each of three sources; with the cache and without."""
    for cache in (True, False):
        found = searched(translator(encoded), sources([5, 2, 0]), length_penalty=length_penalty, cache=cache)
        for index, hypothesis in enumerate(found):
            texts = all_texts(encoded, index)
            assert sum(map(math.exp, texts.values())) == pytest.approx(1.0, rel=1e-5)

            def score(ids: tuple[int, ...], texts: dict[tuple[int, ...], float] = texts) -> float:
                return texts[ids] / ((5 + len(ids)) / 6) ** length_penalty

            best = max(texts, key=score)
            assert hypothesis.ids == [i for i in best if i != END]
            assert hypothesis.log_probability == pytest.approx(texts[best], abs=1e-4)
            assert hypothesis.score == pytest.approx(score(best), abs=1e-4)


def test_a_length_penalty_favours_longer_texts() -> None:
    lengths = [
        sum(len(h.ids) for h in searched(translator(True), sources([5, 2, 0]), length_penalty=p)) for p in (0.0, 5.0)
    ]
    assert lengths[1] > lengths[0]


@pytest.mark.parametrize(("beam_size", "encoded"), [(1, True), (2, True), (3, True), (2, False)], ids=str)
def test_a_beam_follows_its_best(beam_size: int, encoded: bool) -> None:
    """Against a search by hand that keeps lists; a batch finds what each sample would alone; one beam is greedy."""
    whole, batch = translator(encoded), sources([5, 2, 0])
    together = searched(whole, batch, beam_size=beam_size)
    computed = searched(whole, batch, beam_size=beam_size, cache=False)
    assert [h.ids for h in computed] == [h.ids for h in together]
    assert [h.score for h in computed] == pytest.approx([h.score for h in together], abs=1e-4)
    for index, hypothesis in enumerate(together):
        texts = all_texts(encoded, index)

        def begun(ids: tuple[int, ...], texts: dict[tuple[int, ...], float] = texts) -> float:
            """Log-probability of all texts that begin so."""
            return math.log(sum(math.exp(p) for other, p in texts.items() if other[: len(ids)] == ids))

        alive, ended = [()], []
        for _ in range(LIMIT):
            following = sorted(((*ids, i) for ids in alive for i in range(IDS)), key=begun, reverse=True)
            ended += [ids for ids in following[:beam_size] if ids[-1] == END]
            alive = [ids for ids in following if ids[-1] != END][:beam_size]
        best = max([*ended, *alive], key=lambda ids, texts=texts: texts[ids])
        assert hypothesis.ids == [i for i in best if i != END]
        one = batch.select(slice(index, index + 1))
        length = max(1, int(one.lengths["source"]))
        one = one.with_name("source", {"ids": one["source"]["ids"][:, :length]}, one.lengths["source"])
        (alone,) = searched(whole, one, beam_size=beam_size)
        assert alone.ids == hypothesis.ids
        assert alone.score == pytest.approx(hypothesis.score, abs=1e-4)
    if beam_size == 1:
        greedy = generate(whole, tied_logits(whole), batch, "text", max_new_tokens=LIMIT, end=END)
        assert [hypothesis.ids for hypothesis in together] == greedy


def test_a_beam_beyond_the_context_crops_the_oldest() -> None:
    """As greedy decoding does."""
    whole, batch = translator(True), sources([5, 2, 0])
    written = [searched(whole, batch, beam_size=1, max_new_tokens=9, end=99, cache=cache) for cache in (True, False)]
    greedy = generate(whole, tied_logits(whole), batch, "text", max_new_tokens=9)
    assert [[h.ids for h in found] for found in written] == [greedy, greedy]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_size": 0}, "beam_size=0 must be at least 1"),
        ({"length_penalty": -1.0}, "length_penalty=-1.0 must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
    ],
)
def test_a_beam_refuses_what_it_cannot_do(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        searched(translator(True), sources([5, 2, 0]), **changes)


def test_a_beam_starts_from_prompts_of_one_length() -> None:
    batch = merge(text_batch([3, 3], IDS, name="source"), text_batch([2, 1], IDS))
    with pytest.raises(ValueError, match="the prompts under 'text' must be of one length"):
        searched(translator(True), batch)


@pytest.mark.parametrize("cache", [True, False])
def test_every_prompt_attends_to_its_memory(cache: bool) -> None:
    """Sources and prompts of unequal lengths: a batch writes what each sample would alone."""
    torch.manual_seed(0)
    tokenizers = {"source": words(causal=False), "text": words()}
    whole = encoder_decoder(tokenizers, ["source"], positions=POSITIONS["rotary"], init_std=0.06)
    lengths = [3, 1, 4]
    batch = merge(text_batch([5, 2, 0], name="source"), text_batch(lengths, seed=1))
    logits, other_logits = Recorder(whole), Recorder(whole)
    together = generate(whole, logits, batch, "text", max_new_tokens=4, cache=cache)
    for i, length in enumerate(lengths):
        one = batch.select(slice(i, i + 1))
        one = one.with_name("text", {"ids": one["text"]["ids"][:, :length]}, torch.tensor([length]))
        assert generate(whole, Recorder(whole), one, "text", max_new_tokens=4, cache=not cache) == [together[i]]
    other = batch.with_name("source", {"ids": 10 - batch["source"]["ids"]}, batch.lengths["source"])
    generate(whole, other_logits, other, "text", max_new_tokens=4, cache=cache)
    change = (logits.scores[0] - other_logits.scores[0]).abs().amax(1)
    assert change[2] == 0, "its source is absent"
    assert change[:2].min() > 1e-3


@pytest.mark.parametrize(
    ("beam_size", "length_penalty"), [(0, 0.0), (10**10, 0.0), (2, math.nan), (2, math.inf), (2, -1.0), (2, 2000.0)]
)
def test_settings_that_beam_search_cannot_use_are_refused(beam_size: int, length_penalty: float) -> None:
    with pytest.raises(InvalidValue, match="^(beam_size|length_penalty)="):
        check_search(beam_size, length_penalty)


@pytest.mark.parametrize("value", [0, -1, 10**20])
def test_a_number_of_tokens_that_cannot_be_written(value: int) -> None:
    check_max_new_tokens(None)
    with pytest.raises(InvalidValue, match=f"^max_new_tokens={value} must lie in 1..2147483647"):
        check_max_new_tokens(value)
