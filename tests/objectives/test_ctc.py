"""CTC: a text predicted from tokens in its order, without an alignment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import (
    POSITIONS,
    Letters,
    audio,
    audio_batch,
    audio_spec,
    batch_of,
    ctc,
    encoder_decoder,
    image,
    image_batch,
    image_spec,
    merge,
    seq2seq,
    text,
    text_spec,
)
from contracts import check_objective
from hypothesis import given
from hypothesis import strategies as st
from random_sets import examples
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.ctc import CTC, collapse
from mmtx.objectives.text_metrics import CharacterErrorRate, ExactMatch, WordErrorRate

LETTERS = Letters("ab")
METRICS = {"wer": WordErrorRate(), "cer": CharacterErrorRate(), "exact_match": ExactMatch()}
SPECS: dict[str, Spec] = {
    "image": image_spec(),
    "audio": audio_spec(max_length=80),
    "text": text_spec(LETTERS.size, 6, LETTERS),
}
BLANK = LETTERS.size


def made_model(names: list[str], encode: list[str], **changes: Any) -> MultimodalTransformer:
    made = {"image": image(), "audio": audio(SPECS["audio"]), "text": text(SPECS["text"])}
    changes = {"positions": POSITIONS["sinusoidal"], "num_layers": 1, **changes}
    return encoder_decoder({name: made[name] for name in names}, encode, encoder=changes, **changes)


def sound_and_text(rows: list[list[int]], num_tokens: list[int]) -> Batch:
    """Ids as they are, beside sounds of so many tokens: 16 samples each."""
    longest = max(1, *map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return merge(
        audio_batch([16 * n for n in num_tokens]), batch_of({"text": {"ids": ids}}, {"text": [*map(len, rows)]})
    )


def marked(word: str) -> list[int]:
    return [LETTERS.begin, *LETTERS.encode(word), LETTERS.end]


@pytest.mark.parametrize(
    ("names", "encode"),
    [(["audio"], []), (["audio", "text"], ["audio"]), (["image", "audio", "text"], ["audio"]), (["audio", "text"], [])],
    ids=["sound alone", "encoded", "encoded, beside a prefix", "before its text"],
)
def test_contract(names: list[str], encode: list[str]) -> None:
    whole = made_model(names, encode)
    specs = {name: SPECS[name] for name in {*names, "text"}}
    objective = ctc(whole, specs, metrics=METRICS)
    assert objective.labels == ("text",)
    check_objective(objective, whole, specs)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([], []),
        ([2, 2], []),
        ([0, 0, 1], [0, 1]),
        ([0, 2, 0], [0, 0]),
        ([2, 0, 0, 2, 1, 1, 2, 1], [0, 1, 1]),
        ([1, 0, 1, 0], [1, 0, 1, 0]),
    ],
)
def test_collapse(path: list[int], expected: list[int]) -> None:
    assert collapse(path, blank=2) == expected


def paths(length: int, blank: int) -> Iterator[tuple[int, ...]]:
    return product(range(blank + 1), repeat=length)


@examples(25)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 99))
def test_loss_is_that_of_all_alignments_of_the_text(target: list[int], num_tokens: int, seed: int) -> None:
    """Every path is tried; a text without any has no loss. Torch's own loss agrees."""
    objective = made_objective()
    scores = torch.randn(1, num_tokens, BLANK + 1, generator=torch.Generator().manual_seed(seed))
    objective.scores = lambda model, batch: (scores, torch.tensor([num_tokens]))  # type: ignore[method-assign]
    score = objective(made_model(["audio"], []), sound_and_text([target], [num_tokens]))
    log_probability = scores[0].double().log_softmax(-1).tolist()
    total = sum(
        math.exp(sum(log_probability[t][i] for t, i in enumerate(path)))
        for path in paths(num_tokens, BLANK)
        if collapse(list(path), BLANK) == target
    )
    assert score.count.item() == len(target)
    assert score.stats["too_long"][0].item() == (total == 0)
    assert score.loss_sum.item() == pytest.approx(-math.log(total) if total else 0.0, rel=1e-4, abs=1e-5)


def made_objective(**changes: Any) -> CTC:
    return ctc(made_model(["audio"], []), SPECS, **changes)


def test_loss_is_torchs_own_of_a_ragged_batch() -> None:
    """With sounds of unequal lengths, one that is too short, one that is absent, and one without a text."""
    whole = made_model(["audio", "text"], ["audio"])
    objective = ctc(whole, SPECS)
    words = ["ab", "aab", "b", "abab", "", "ab"]
    batch = sound_and_text([marked(word) for word in words[:4]] + [[], marked("ab")], [5, 4, 3, 2, 5, 0])
    score = objective(whole, batch)
    scores, lengths = objective.scores(whole, batch)
    assert scores.shape == (6, 5, BLANK + 1)
    assert lengths.tolist() == [5, 4, 3, 2, 5, 0]
    expected = [
        F.ctc_loss(
            scores[index, :length, None].log_softmax(-1),
            torch.tensor([LETTERS.encode(word)]),
            torch.tensor([length]),
            torch.tensor([len(word)]),
            blank=BLANK,
            reduction="sum",
        )
        for index, (word, length) in enumerate(zip(words[:3], (5, 4, 3), strict=True))
    ]
    torch.testing.assert_close(score.loss_sum, torch.stack(expected).sum())
    assert score.count.item() == objective.count(batch).item() == 2 + 3 + 1 + 4 + 2
    assert [value.item() for value in score.stats["too_long"]] == [2, 5], "four letters of two tokens; two of none"
    assert objective.metrics(score)["too_long"] == pytest.approx(0.4)
    score.loss_sum.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


@pytest.mark.parametrize(("word", "needed"), [("aa", 3), ("ab", 2), ("aabb", 6), ("a", 1)])
def test_equal_neighbours_need_a_blank_between(word: str, needed: int) -> None:
    objective, whole = made_objective(), made_model(["audio"], [])
    for num_tokens, too_long in ((needed - 1, 1), (needed, 0)):
        score = objective(whole, sound_and_text([marked(word)], [num_tokens]))
        assert score.stats["too_long"][0].item() == too_long
        assert score.loss_sum.isfinite()
        assert (score.loss_sum > 0) == (not too_long)


def test_begin_and_end_are_not_predicted() -> None:
    """Wherever they stand, and if they are not there; what stands behind the text is not read."""
    objective, whole = made_objective(), made_model(["audio"], [])
    begin, end = LETTERS.begin, LETTERS.end
    plain = objective(whole, sound_and_text([[0, 1, 1]], [5])).vector()
    for row in ([begin, 0, 1, 1, end], [0, 1, 1, end], [begin, 0, 1, end, 1], [end, begin, 0, end, 1, begin, 1]):
        torch.testing.assert_close(objective(whole, sound_and_text([row], [5])).vector(), plain)
    longer = sound_and_text([[begin, 0, 1, 1, end], [0] * 6], [5, 0])
    longer["text"]["ids"][0, 5:] = 1
    torch.testing.assert_close(objective(whole, longer.select(slice(0, 1))).vector(), plain)


def test_the_blank_is_an_id_of_the_text() -> None:
    """As in public models: the head has no row more. It gives what a head does whose rows stand elsewhere."""
    whole, batch = made_model(["audio"], []), sound_and_text([marked("ab"), marked("b")], [5, 3])
    usual, public = ctc(whole, SPECS), ctc(whole, SPECS, blank=LETTERS.begin)
    assert public.head.out_features == LETTERS.size == usual.head.out_features - 1
    with torch.no_grad():
        for own, other in zip(public.head.parameters(), usual.head.parameters(), strict=True):
            other[: LETTERS.size], other[BLANK] = own, own[LETTERS.begin]
        usual.head.bias[LETTERS.begin] = -1e9
    torch.testing.assert_close(public(whole, batch).loss_sum, usual(whole, batch).loss_sum)
    assert public.write(whole, batch) == usual.write(whole, batch)
    with pytest.raises(InvalidValue, match=f"blank={BLANK} must lie in 0..{BLANK - 1}"):
        ctc(whole, SPECS, blank=BLANK)


def test_dropout_before_the_head() -> None:
    whole, batch = made_model(["audio"], []), sound_and_text([marked("ab")], [5])
    objective = ctc(whole, SPECS, dropout=0.5)
    kept = objective.scores(whole, batch)[0]
    assert not objective.train().scores(whole, batch)[0].equal(kept)
    assert objective.eval().scores(whole, batch)[0].equal(kept)


def test_greedy_decoding_takes_the_best_alignment() -> None:
    """Each token's best id within the clip's own tokens; the metrics are those of these texts."""
    whole = made_model(["audio", "text"], ["audio"])
    objective = ctc(whole, SPECS, metrics=METRICS)
    with torch.no_grad():
        objective.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        objective.head.bias[BLANK] = -1.0
    batch = sound_and_text([marked("ab"), marked("b"), [], marked("aba")], [5, 4, 5, 3])
    scores, lengths = objective.scores(whole, batch)
    read = [
        LETTERS.decode(collapse(row[:length].argmax(-1).tolist(), BLANK))
        for row, length in zip(scores, lengths.tolist(), strict=True)
    ]
    assert objective.write(whole, batch) == read
    assert any(read)
    found = objective.metrics(objective(whole, batch))
    pairs = [(read[index], [word]) for index, word in ((0, "ab"), (1, "b"), (3, "aba"))]
    for name, metric in METRICS.items():
        expected = metric.value(metric.score([text for text, _ in pairs], [true for _, true in pairs]))
        assert found[name] == pytest.approx(expected), name
    assert [example.truth for example in objective.examples(whole, batch)] == ["ab", "b", "", "aba"]
    assert [example.right for example in objective.examples(whole, batch)][2] is None
    training = objective.train()(whole, batch)
    assert set(objective.metrics(training)) == {"loss", "too_long"}


def test_ctc_and_seq2seq_in_one_learner() -> None:
    """Each as if it were alone, so that the total is their weighted sum."""
    whole = made_model(["audio", "text"], ["audio"])
    specs = {name: SPECS[name] for name in ("audio", "text")}
    objectives = {"ctc": ctc(whole, specs, weight=0.3), "seq2seq": seq2seq(whole, specs, weight=0.7)}
    learner = Learner(model=whole, objectives=objectives, specs=specs).train()
    batch = sound_and_text([marked("ab"), marked("b"), marked("aa")], [5, 2, 4])

    def total(scores: dict[str, Any]) -> Tensor:
        return sum(objectives[name].weight * score.loss_sum / score.count for name, score in scores.items())

    together = torch.autograd.grad(total(learner(batch)), list(learner.parameters()))
    apart = [torch.zeros_like(parameter) for parameter in learner.parameters()]
    for name, objective in objectives.items():
        own = torch.autograd.grad(total({name: objective(whole, batch)}), list(learner.parameters()), allow_unused=True)
        apart = [one if other is None else one + other for one, other in zip(apart, own, strict=True)]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def arranged(names: list[str], encode: list[str], clocks: dict[str, str]) -> MultimodalTransformer:
    made = {
        "image": image(clock=clocks.get("image")),
        "audio": audio(SPECS["audio"], clock=clocks.get("audio")),
        "text": text(SPECS["text"], clock=clocks.get("text")),
    }
    return encoder_decoder({name: made[name] for name in names}, encode)


ATTENDED = [
    (["text", "audio"], [], {}),
    (["text", "audio"], [], {"audio": "one", "text": "one"}),
    (["image", "audio", "text"], [], {"image": "one", "text": "one"}),
    (["image", "text", "audio"], ["text", "audio"], {}),
    (["image", "audio", "text"], ["text"], {}),
]
HIDDEN = [
    (["audio"], [], {}),
    (["audio", "text"], [], {}),
    (["text", "audio"], ["audio"], {}),
    (["image", "audio", "text"], ["audio", "text"], {}),
    (["image", "text", "audio"], [], {"image": "one", "audio": "one"}),
]


@pytest.mark.parametrize(("names", "encode", "clocks"), ATTENDED + HIDDEN, ids=str)
def test_a_source_that_attends_to_its_text_is_refused(
    names: list[str], encode: list[str], clocks: dict[str, str]
) -> None:
    """Exactly where another text changes the source's hidden states."""
    whole = arranged(names, encode, clocks)
    pictures = image_batch([1, 1])
    states = [
        whole(merge(sound_and_text(rows, [5, 5]), pictures)).tokens("audio")
        for rows in ([[0, 1, 0], [1, 1, 0]], [[1, 0, 1], [0, 0, 1]])
        if "text" in names
    ]
    if (names, encode, clocks) in ATTENDED:
        assert not states[0].equal(states[1])
        with pytest.raises(InvalidValue, match="source=audio attends to 'text', which it predicts"):
            ctc(whole, SPECS)
    else:
        assert not states or states[0].equal(states[1])
        ctc(whole, SPECS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "sound"}, "source=sound names no modality of the set; there is audio"),
        ({"text": "words"}, "text=words names no part of the data; there is image, audio, text"),
        ({"text": "image"}, "text=image has no vocabulary"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_objective(**changes)
