"""A text that is written from the rest of the set, by teacher forcing and by decoding."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    audio,
    audio_batch,
    audio_spec,
    batch_of,
    encoder_decoder,
    image,
    image_spec,
    merge,
    seq2seq,
    text,
    text_batch,
    text_spec,
)
from contracts import check_objective
from matplotlib.figure import Figure
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.beam_search import beam_search
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.objectives.text_metrics import BLEU, CharacterErrorRate, ExactMatch, WordErrorRate

LETTERS = Letters()
METRICS = {"wer": WordErrorRate(), "cer": CharacterErrorRate(), "exact_match": ExactMatch()}
SPECS: dict[str, Spec] = {
    "image": image_spec(),
    "audio": audio_spec(),
    "source": text_spec(vocabulary=Letters("abcdefghijk", marks=False)),
    "text": text_spec(vocabulary=LETTERS),
    "references": text_spec(max_length=20, vocabulary=LETTERS),
}


def made_model(names: list[str], encode: list[str], **changes: Any) -> MultimodalTransformer:
    made = {"image": image(), "audio": audio(), "source": text(SPECS["source"], causal=False), "text": text()}
    changes = {"positions": POSITIONS["learned"], **changes}
    return encoder_decoder({name: made[name] for name in names}, encode, encoder=changes, **changes)


def words(*letters: str, name: str = "text") -> Batch:
    """Texts with a begin and an end; None of them where it is a minus."""
    rows = [[] if word == "-" else [LETTERS.begin, *LETTERS.encode(word), LETTERS.end] for word in letters]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return batch_of({name: {"ids": ids}}, {name: [len(row) for row in rows]})


def spoken(*letters: str) -> Batch:
    return merge(audio_batch([128, 60, 90, 20, 0][: len(letters)]), words(*letters))


@pytest.mark.parametrize(
    ("names", "encode", "changes"),
    [
        (["audio", "text"], ["audio"], {}),
        (["audio", "text"], [], {"tied": False, "label_smoothing": 0.1}),
        (["image", "source", "text"], ["source"], {"references": "references", "beam_size": 2}),
    ],
    ids=["sound encoded", "sound as a prefix", "text to text, beside a picture"],
)
def test_contract(names: list[str], encode: list[str], changes: dict[str, Any]) -> None:
    specs = {name: SPECS[name] for name in names} | {"text": text_spec(max_length=4, vocabulary=LETTERS)}
    if "references" in changes:
        specs["references"] = SPECS["references"]
    whole = made_model(names, encode, num_layers=1)
    objective = seq2seq(whole, specs, metrics={**METRICS, "bleu": BLEU()}, **changes)
    objective.head.context = 3  # a shorter text is decoded sooner
    assert set(objective.labels) == set(specs) & {"references"}
    check_objective(objective, whole, specs)


def next_scores(objective: Seq2Seq, whole: MultimodalTransformer, batch: Batch, index: int, ids: list[int]) -> Tensor:
    """Log-probabilities after each of some ids, for one sample alone."""
    one = batch.select(slice(index, index + 1))
    one = one.with_name("text", {"ids": torch.tensor([ids])}, torch.tensor([len(ids)]), full=True)
    hidden = whole(one).tokens("text")[0]
    own = objective.head.projection
    weight = whole.tokenizers["text"].embedding.weight if own is None else own.weight
    return (hidden @ weight.T).log_softmax(-1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encode", [["audio"], []], ids=["encoded", "prefix"])
def test_loss_equals_a_computation_by_hand(encode: list[str], tied: bool) -> None:
    """Each text alone, each prediction by the probability of the id that follows, begin and end included."""
    whole = made_model(["audio", "text"], encode)
    objective = seq2seq(whole, SPECS, tied=tied)
    batch = spoken("abc", "", "-", "hi", "f")
    score = objective(whole, batch)
    loss, right, count = 0.0, 0, 0
    for index, length in enumerate(batch.lengths["text"].tolist()):
        if length == 0:
            continue
        ids = batch["text"]["ids"][index, :length].tolist()
        scores = next_scores(objective, whole, batch, index, ids[:-1])
        loss -= sum(scores[place, following].item() for place, following in enumerate(ids[1:]))
        right += int((scores.argmax(-1) == torch.tensor(ids[1:])).sum())
        count += length - 1
    assert objective.count(batch).item() == score.count.item() == count == 4 + 1 + 3 + 2
    assert score.loss_sum.item() == pytest.approx(loss, rel=1e-5)
    assert objective.metrics(score) == pytest.approx({"loss": loss / count, "accuracy": right / count}, rel=1e-5)
    training = objective.train()(whole.train(), batch)
    assert not training.stats
    assert set(objective.metrics(training)) == {"loss"}


def by_hand(objective: Seq2Seq, whole: MultimodalTransformer, batch: Batch, index: int, limit: int) -> str:
    """Greedy decoding that computes everything anew, for one sample alone."""
    ids = [LETTERS.begin]
    while len(ids) - 1 < limit:
        ids.append(int(next_scores(objective, whole, batch, index, ids)[-1].argmax()))
        if ids[-1] == LETTERS.end:
            break
    return LETTERS.decode(ids)


@pytest.mark.parametrize("encode", [["audio"], []], ids=["encoded", "prefix"])
def test_greedy_writing_equals_a_loop(encode: list[str]) -> None:
    """Of a batch with sounds of all lengths, one of them absent; the true texts are not looked at."""
    whole, objective = talkative(encode)
    batch = spoken("abc", "de", "abc", "-", "")
    written = objective.write(whole, batch)
    assert written == [by_hand(objective, whole, batch, index, 3) for index in range(5)]
    assert len(set(written)) > 2
    assert objective.write(whole, spoken("-", "-", "-", "-", "ihgf"), cache=False) == written
    assert objective.write(whole, batch, max_new_tokens=1) == [
        by_hand(objective, whole, batch, index, 1) for index in range(5)
    ]


def talkative(encode: list[str], **changes: Any) -> tuple[MultimodalTransformer, Seq2Seq]:
    """A random model that writes each sound another text, of at most three letters."""
    whole = made_model(["audio", "text"], encode, num_layers=1, init_std=0.1)
    objective = seq2seq(whole, SPECS, **changes)
    objective.head.context = 3
    return whole, objective


def test_metrics_are_those_of_the_decoded_texts() -> None:
    """Not of those that teacher forcing would give; samples without a text do not count."""
    whole, objective = talkative(["audio"], metrics={**METRICS, "bleu": BLEU()})
    written = objective.write(whole, spoken("-", "-", "-", "-", "a"))
    truth = [written[0], "dd", None, "hi", ""]
    batch = spoken(*("-" if true is None else true for true in truth))
    found = objective.metrics(objective(whole, batch))
    pairs = [(text, [true]) for text, true in zip(written, truth, strict=True) if true is not None]
    for name, metric in objective.text_metrics.items():
        expected = metric.value(metric.score([text for text, _ in pairs], [true for _, true in pairs]))
        assert found[name] == pytest.approx(expected), name
    right = [None if true is None else text == true for text, true in zip(written, truth, strict=True)]
    assert right[:4] == [True, False, None, False]
    assert found["exact_match"] == sum(map(bool, right)) / 4
    assert list(found) == ["loss", "accuracy", "wer", "cer", "exact_match", "bleu"]
    examples = objective.examples(whole, batch)
    assert [example.predicted for example in examples] == written
    assert [example.truth for example in examples] == [true or "" for true in truth]
    assert [example.right for example in examples] == right


def test_the_best_of_several_references_counts() -> None:
    """All of them stand in one row, each closed by the end mark; the text itself is one of them."""
    whole, objective = talkative(["audio"], metrics=METRICS, references="references")
    first, second = objective.write(whole, spoken("-", "a"))
    assert first
    assert second
    assert "i" not in first + second
    ends = [LETTERS.end]
    long = [*LETTERS.encode(second + "i"), *ends]
    rows = [[*LETTERS.encode("hh"), *ends, *LETTERS.encode(first), *ends], [*LETTERS.encode("i"), *ends, *long], [3]]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    references = batch_of({"references": {"ids": ids}}, {"references": [len(row) for row in rows]})
    batch = merge(spoken("ii", "iii", "-"), references)
    found = objective.metrics(objective(whole, batch))
    assert found["exact_match"] == 0.5, "the first is one of its references, the second none"
    assert found["cer"] == pytest.approx(1 / (len(first) + len(second) + 1)), "of the nearest reference, one letter"
    examples = objective.examples(whole, batch)
    assert [example.right for example in examples] == [True, False, None]
    assert [example.truth for example in examples] == ["ii", "iii", ""]


def test_a_beam_is_what_evaluation_decodes_with() -> None:
    """Its hypotheses are those of `beam_search`, other than greedy ones; marks are not read."""
    whole, greedy = talkative(["audio"])
    _, objective = talkative(["audio"], beam_size=6, length_penalty=0.5, metrics=METRICS)
    batch = spoken("abc", "de", "hi", "g", "f")
    keys: dict[str, Any] = {"beam_size": 6, "length_penalty": 0.5, "max_new_tokens": 3, "end": LETTERS.end}
    one = torch.ones(5, dtype=torch.long)
    prompt = batch.with_name("text", {"ids": one[:, None] * LETTERS.begin}, one, full=True)
    vectors = whole.tokenizer("text").id_vectors
    found = beam_search(whole, lambda hidden: hidden @ vectors.T, prompt, "text", **keys)
    written = objective.write(whole, batch)
    assert written == [LETTERS.decode(hypothesis.ids) for hypothesis in found]
    assert written != greedy.write(whole, batch)
    right = sum(text == true for text, true in zip(written, ["abc", "de", "hi", "g", "f"], strict=True))
    assert objective.metrics(objective(whole, batch))["exact_match"] == right / 5
    assert objective.write(whole, batch, beam_size=1) == greedy.write(whole, batch)


def decoded_ids(objective: Seq2Seq, ids: list[int], split: str = "val") -> list[int]:
    batch = replace(spoken(*["a"] * 4).select(torch.arange(len(ids)) % 4), ids=torch.tensor(ids), split=split)
    kept = objective._decoded(batch).ids
    assert kept is not None
    return kept.tolist()


@pytest.mark.parametrize("period", [1, 2, 3, 4, 10])
def test_validation_decodes_a_share_of_its_samples(period: int) -> None:
    """The same ones however the split is cut, as many of any that come in turns, and never an empty filler."""
    _, objective = talkative(["audio"], metrics=METRICS, val_share=0.25)
    whole = decoded_ids(objective, list(range(1000)))
    assert whole == [i for first in range(0, 1000, 8) for i in decoded_ids(objective, [*range(first, first + 8), -1])]
    assert whole[0] == 0
    shares = [sum(i % period == turn for i in whole) * period / 1000 for turn in range(period)]
    assert all(share == pytest.approx(0.25, abs=0.03) for share in shares)
    assert decoded_ids(objective, list(range(8)), "test") == decoded_ids(objective, list(range(8)), "") == [*range(8)]


def test_metrics_of_validation_are_of_what_it_decodes() -> None:
    """The loss is of all; a batch of which nothing is decoded adds nothing."""
    whole, objective = talkative(["audio"], metrics=METRICS, val_share=0.25)
    batch = replace(spoken("abc", "de", "hi", "g"), ids=torch.tensor([0, 1, 3, 4]), split="val")
    score, first = objective(whole, batch), objective(whole, batch.select(slice(0, 1)))
    assert objective.count(batch) == score.count == 4 + 3 + 3 + 2
    assert {name: pair for name, pair in score.stats.items() if name != "accuracy"} == {
        name: pair for name, pair in first.stats.items() if name != "accuracy"
    }
    none = objective(whole, batch.select(slice(1, 2)))
    assert none.stats.keys() == score.stats.keys()
    assert none.stats["exact_match"][1] == 0
    with pytest.raises(InvalidValue, match="^val_share=0 must be above 0"):
        seq2seq(whole, SPECS, val_share=0)


def test_two_objectives_add_up_by_weight() -> None:
    """Two texts of one set, one of them from a learner with both."""
    whole = encoder_decoder({"audio": audio(), "text": text()}, ["audio"])
    objectives = {"a": seq2seq(whole, SPECS, weight=1.0), "b": seq2seq(whole, SPECS, weight=0.5, tied=False)}
    learner = Learner(model=whole, objectives=objectives, specs=SPECS).eval()
    batch = spoken("abc", "de")
    scores = learner(batch)
    for name, objective in objectives.items():
        assert scores[name].vector().tolist() == pytest.approx(objective(whole, batch).vector().tolist())


def test_texts_too_short_to_predict() -> None:
    whole = made_model(["audio", "text"], ["audio"])
    objective = seq2seq(whole, SPECS, metrics=METRICS)
    batch = merge(audio_batch([128, 64]), text_batch([0, 0]))
    score = objective(whole, batch)
    score.loss_sum.backward()
    assert score.count.item() == score.loss_sum.item() == 0
    assert all(math.isnan(value) for value in objective.metrics(score).values())
    assert len(objective.write(whole, batch)) == 2, "what there is of the sound is transcribed all the same"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "words"}, "text=words names no modality of the set; there is audio, source, text"),
        ({"text": "audio"}, "text=audio is sent through the encoder"),
        ({"text": "source"}, "text=source must name a causal text"),
        ({"references": "labels"}, "references=labels names no part of the data"),
        ({"references": "audio"}, "references=audio has no vocabulary"),
        ({"beam_size": 0}, "beam_size=0 must be at least 1"),
        ({"length_penalty": -0.1}, "length_penalty=-0.1 must be at least 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0 must lie in \[0, 1\)"),
        ({"specs": {**SPECS, "text": text_spec()}}, "text=text names a text without begin and end"),
        (
            {"specs": {**SPECS, "text": text_spec(vocabulary=Letters("abcdefghijk", marks=False))}},
            r"text=text names a text without begin and end; a stream takes objective=\[next_token\]",
        ),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    whole = made_model(["audio", "source", "text"], ["audio"])
    specs = changes.pop("specs", SPECS)
    error = InvalidValue if "names no" not in message else ValueError
    with pytest.raises(error, match=message):
        seq2seq(whole, specs, **changes)


@pytest.mark.parametrize("encode", [["audio"], []], ids=["encoder", "prefix"])
def test_beneath_an_encoded_sound_is_where_its_text_attends(
    encode: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row for each id that is predicted, the end among them; each row sums to 1 over the sound's tokens."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    whole, batch = made_model(["audio", "text"], encode).eval(), spoken("abc", "de")
    objective = seq2seq(whole, SPECS, text="text").eval()
    shown = objective.show(whole, batch, objective.examples(whole, batch), tmp_path / "a")
    assert shown == [tmp_path / "a.jsonl", tmp_path / "a.png"]
    axes = figures[0].axes
    assert len(axes) == (8 if encode else 6)  # of each, waveform, spectrogram, and text
    for sound, attended, text_of_it in zip(axes[1::4], axes[2::4], ("abc", "de"), strict=True) if encode else ():
        weights = torch.as_tensor(attended.images[0].get_array().data)
        assert len(weights) == len(text_of_it) + 1 and attended.get_xlim() == sound.get_xlim()
        assert weights.sum(1).tolist() == pytest.approx([1.0] * len(weights), abs=1e-5)
        assert [label.get_text() for label in attended.get_yticklabels()] == [*text_of_it, "·"]
        assert (sound.get_xlabel(), attended.get_xlabel()) == ("", "seconds")
