"""Next-token prediction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    backbone,
    batch_of,
    image,
    image_batch,
    image_spec,
    merge,
    model,
    text,
    text_batch,
    text_spec,
)
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.data.specs import class_spec
from mmtx.decoding.generate import generate
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.next_token import NextToken

ENDING, STREAM = Letters(), Letters("abcdefghijk", marks=False)


def specs_of(vocabulary: Letters | None, max_length: int = 8) -> dict[str, Spec]:
    return {"image": image_spec(), "text": text_spec(max_length=max_length, vocabulary=vocabulary)}


def made_model(**changes: Any) -> MultimodalTransformer:
    torch.manual_seed(0)
    body = backbone(**{"positions": POSITIONS["learned"], **changes})
    return model({"image": image(), "text": text()}, body)


def made(whole: MultimodalTransformer, vocabulary: Letters | None = ENDING, **changes: Any) -> NextToken:
    keys: dict[str, Any] = {
        "specs": specs_of(vocabulary),
        "weight": 1.0,
        "text": "text",
        "tied": True,
        "logit_scale": 1.0,
        "label_smoothing": 0.0,
    }
    return NextToken(model=whole, **{**keys, **changes}).eval()


def captions(lengths: list[int], seed: int = 0) -> Batch:
    return merge(image_batch([1] * len(lengths)), text_batch(lengths, seed=seed))


def begun(letters: list[str]) -> Batch:
    """Texts with a begin and an end."""
    assert ENDING.begin is not None
    assert ENDING.end is not None
    rows = [[ENDING.begin, *ENDING.encode(word), ENDING.end] for word in letters]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return merge(image_batch([1] * len(rows)), batch_of({"text": {"ids": ids}}, {"text": [len(row) for row in rows]}))


@pytest.mark.parametrize("vocabulary", [ENDING, STREAM, None], ids=["ending", "stream", "none"])
@pytest.mark.parametrize("changes", [{}, {"tied": False, "label_smoothing": 0.1}], ids=["tied", "head, smooth"])
def test_contract(vocabulary: Letters | None, changes: dict[str, Any]) -> None:
    whole = made_model()
    check_objective(made(whole, vocabulary, **changes), whole, specs_of(vocabulary))


def test_contract_of_a_text_alone() -> None:
    whole = model({"text": text()})
    specs = {"text": text_spec(vocabulary=ENDING)}
    check_objective(made(whole, specs=specs), whole, specs)


@pytest.mark.parametrize(("tied", "softcap"), [(True, None), (False, None), (False, 0.02)])
def test_equals_a_computation_by_hand(tied: bool, softcap: float | None) -> None:
    """Each text alone, each prediction by the probability of the id that follows."""
    whole = made_model()
    objective = made(whole, tied=tied, softcap=softcap)
    batch = captions([5, 2, 1, 8])
    score = objective(whole, batch)
    loss, right, total = 0.0, 0, 0
    for index, length in enumerate(batch.lengths["text"].tolist()):
        ids = batch["text"]["ids"][index, :length]
        if length < 2:
            continue
        alone = batch.select(slice(index, index + 1))
        alone = alone.with_name("text", {"ids": ids[None, :-1]}, torch.tensor([length - 1]), full=True)
        hidden = whole(alone).tokens("text")[0]
        own = objective.head.projection
        weight = whole.tokenizers["text"].embedding.weight if own is None else own.weight
        scores = hidden @ weight.T
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        torch.testing.assert_close(objective.head.logits(whole, hidden), scores)
        log_probability = scores.log_softmax(-1)
        for place, following in enumerate(ids[1:].tolist()):
            loss -= log_probability[place, following].item()
            right += int(log_probability[place].argmax() == following)
            total += 1
    metrics = objective.metrics(score)
    assert score.count.item() == total == 4 + 1 + 0 + 7
    assert score.loss_sum.item() == pytest.approx(loss, rel=1e-5)
    assert metrics["loss"] == pytest.approx(loss / total, rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(loss / total), rel=1e-4)
    assert metrics["accuracy"] == pytest.approx(right / total)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_perplexity_is_never_that_of_a_smoothed_loss(smoothing: float) -> None:
    whole = made_model()
    objective = made(whole, label_smoothing=smoothing)
    batch = captions([5, 2, 8])
    exact = objective.metrics(objective(whole, batch))["perplexity"]
    training = objective.train().metrics(objective(whole, batch))
    assert "loss" in training and training.get("perplexity") == (None if smoothing else pytest.approx(exact))


def test_label_smoothing_is_for_training() -> None:
    whole = made_model()
    objective = made(whole, label_smoothing=0.3)
    batch = captions([5, 3])
    inputs, targets, real = objective.head.shift(batch)
    log_probability = objective.head.logits(whole, whole(inputs).tokens("text")).log_softmax(-1)
    right = log_probability.gather(-1, targets[..., None])[..., 0]
    sharp = -(right * real).sum()
    smooth = -((0.7 * right + 0.3 * log_probability.mean(-1)) * real).sum()
    torch.testing.assert_close(objective(whole, batch).loss_sum, sharp)
    torch.testing.assert_close(objective.train()(whole, batch).loss_sum, smooth)


def test_no_prediction_sees_its_target() -> None:
    """Other ids from some place on change the scores of later places alone."""
    whole = made_model()
    objective = made(whole)
    batch = captions([8])
    scores = objective.head.logits(whole, whole(objective.head.shift(batch)[0]).tokens("text"))
    for place in range(8):
        ids = batch["text"]["ids"].clone()
        ids[:, place:] = 10 - ids[:, place:]
        other = batch.with_name("text", {"ids": ids}, batch.lengths["text"], full=True)
        changed = objective.head.logits(whole, whole(objective.head.shift(other)[0]).tokens("text"))
        assert changed[:, :place].equal(scores[:, :place])
        assert place == 7 or not torch.allclose(changed[:, place:], scores[:, place:])


def test_shift_keeps_what_the_host_knows() -> None:
    objective = made(made_model())
    inputs, targets, real = objective.head.shift(captions([4, 4]))
    assert inputs.full["text"]
    assert inputs["text"]["ids"].shape == targets.shape == real.shape == (2, 3)
    assert not objective.head.shift(captions([4, 2]))[0].full["text"]


@pytest.mark.parametrize("lengths", [[1, 1], [1, 0], [0, 0]], ids=str)
def test_texts_too_short_to_predict(lengths: list[int]) -> None:
    whole = made_model()
    objective = made(whole)
    score = objective(whole, captions(lengths))
    score.loss_sum.backward()
    assert score.count.item() == score.loss_sum.item() == 0
    assert math.isnan(objective.metrics(score)["loss"])
    inputs, _, real = objective.head.shift(captions(lengths))
    assert not inputs.full["text"]
    assert not real.any()


def test_bits_per_byte_counts_what_people_read() -> None:
    """The marks cost bits and stand for no byte."""
    whole = made_model()
    objective = made(whole)
    score = objective(whole, begun(["abc", "de"]))
    assert score.stats["bytes"][0].item() == 5
    expected = score.loss_sum.item() / math.log(2) / 5
    assert objective.metrics(score)["bits_per_byte"] == pytest.approx(expected, rel=1e-6)


def test_streams_have_no_exact_match_and_unread_ids_no_bytes() -> None:
    whole = made_model()
    stream, unread = made(whole, STREAM), made(whole, None)
    batch = captions([6, 6])
    assert set(stream.metrics(stream(whole, batch))) == {"loss", "perplexity", "accuracy", "bits_per_byte"}
    assert set(unread.metrics(unread(whole, batch))) == {"loss", "perplexity", "accuracy"}


def learned(words: list[str], steps: int = 60) -> tuple[MultimodalTransformer, NextToken, Batch]:
    """A model that has learned some of its captions by heart, but not all."""
    whole = made_model(init_std=0.02)
    objective = made(whole)
    batch = begun(words)
    optimiser = torch.optim.Adam([*whole.parameters(), *objective.parameters()], lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        objective(whole, batch.select(slice(0, 3))).loss_sum.backward()
        optimiser.step()
    return whole, objective, batch


def test_exact_match_is_what_greedy_decoding_writes() -> None:
    whole, objective, batch = learned(["abc", "de", "f", "ihg", "bbb"])
    assert ENDING.begin is not None
    count = len(batch)
    prompt = batch.with_name("text", {"ids": batch["text"]["ids"][:, :1]}, torch.ones(count, dtype=torch.long))

    def logits(hidden: Tensor) -> Tensor:
        return objective.head.logits(whole, hidden)

    written = generate(whole, logits, prompt, "text", max_new_tokens=7, end=ENDING.end)
    expected = [ENDING.decode(ids) for ids in written]
    exact = [word == true for word, true in zip(expected, ["abc", "de", "f", "ihg", "bbb"], strict=True)]
    with torch.no_grad():
        score = objective(whole, batch)
    assert exact == [True, True, True, False, False], "the first three are known by heart, whatever their length"
    assert objective.metrics(score)["exact_match"] == pytest.approx(sum(exact) / count)
    examples = objective.examples(whole, batch)
    assert [example.right for example in examples] == exact
    assert [example.truth for example in examples] == ["abc", "de", "f", "ihg", "bbb"]
    right = [index for index in range(count) if exact[index]]
    assert [examples[index].predicted for index in right] == [expected[index] for index in right]


def test_examples_of_a_stream_continue_its_beginning() -> None:
    whole = made_model()
    objective = made(whole, STREAM)
    batch = captions([8, 8])
    examples = objective.examples(whole, batch)
    for example, ids in zip(examples, batch["text"]["ids"].tolist(), strict=True):
        assert example.truth == STREAM.decode(ids)
        assert example.predicted[:2] == example.truth[:2], "a quarter is given"
        assert len(example.predicted) == 8
        assert example.right is None


def test_an_example_is_right_if_its_ids_are() -> None:
    """A mark within the text is not read by people, and wrong all the same."""
    whole = made_model()
    objective = made(whole)
    batch = begun(["ab"])
    script = iter([ENDING.begin, 0, 1, ENDING.end, ENDING.end])
    objective.head.logits = lambda model, hidden: torch.nn.functional.one_hot(
        torch.tensor([[next(script)]]), 11
    ).float()
    (example,) = objective.examples(whole, batch)
    assert example.predicted == example.truth == "ab"
    assert example.right is False


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"text": "words"}, ValueError, "text=words names no modality of the set; there is image, text"),
        ({"text": "image"}, InvalidValue, "text=image must name a causal text"),
        ({"label_smoothing": -0.1}, InvalidValue, r"label_smoothing=-0.1 must lie in \[0, 1\)"),
        ({"softcap": 0.0}, InvalidValue, r"softcap=0\.0 must be above 0"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made(made_model(), **changes)


def test_a_text_that_hears_its_future_is_refused() -> None:
    whole = model({"text": text(causal=False)})
    with pytest.raises(InvalidValue, match="must name a causal text; nearest: set modality.text.causal=true"):
        made(whole)


def test_the_head_is_tied_or_its_own() -> None:
    whole = made_model()
    assert not list(made(whole).parameters())
    own = made(whole, tied=False)
    assert [name for name, _ in own.named_parameters()] == ["head.projection.weight"]
    assert "byte_lengths" not in own.state_dict()


def test_of_a_conversation_only_what_is_chosen_is_predicted() -> None:
    """The loss, its count and the share of right ids are those of single ids, one by one."""
    whole = made_model()
    objective, batch = made(whole), captions([8, 5, 1, 0])
    chosen = torch.rand(batch["text"]["ids"].shape, generator=torch.Generator().manual_seed(0)) < 0.5
    fields = {**batch["text"], "predicted": chosen}
    talk = batch.with_name("text", fields, batch.lengths["text"])
    score = objective(whole, talk)
    logits, ids = objective.outputs(whole, batch)["logits"], batch["text"]["ids"]
    losses, right = [], 0
    for row, length in enumerate(batch.lengths["text"].tolist()):
        for place in range(1, length):
            if chosen[row, place]:
                losses.append(torch.nn.functional.cross_entropy(logits[row, place - 1], ids[row, place]))
                right += int(logits[row, place - 1].argmax() == ids[row, place])
    assert int(objective.count(talk)) == int(score.count) == len(losses) > 3
    assert float(score.loss_sum) == pytest.approx(float(sum(losses).detach()), rel=1e-5)
    assert score.stats["accuracy"][0] == right


def test_an_example_of_a_conversation_is_its_first_answer() -> None:
    whole = made_model()
    objective, batch = made(whole), captions([8, 8, 6])
    chosen = torch.zeros_like(batch["text"]["ids"], dtype=torch.bool)
    for row, places in enumerate([(2, 3, 6), (4, 5, 6, 7), (1, 2)]):
        chosen[row, list(places)] = True
    talk = batch.with_name("text", {**batch["text"], "predicted": chosen}, batch.lengths["text"])
    ids = batch["text"]["ids"].tolist()
    expected = [ENDING.decode(part) for part in (ids[0][2:4], ids[1][4:8], ids[2][1:3])]
    assert [example.truth for example in objective.examples(whole, talk)] == expected


def asked(size: int = 6) -> tuple[dict[str, Spec], Batch]:
    """Texts of numbers, of which two ids are predicted, and a class for each text but the last."""
    text_of = text_spec(max_length=8, vocabulary=None)
    predicted = Field((None,), torch.bool, max_length=8)
    specs = {
        "image": image_spec(),
        "text": replace(text_of, fields={**text_of.fields, "predicted": predicted}),
        "length": class_spec(("4", "8")),
    }
    batch = captions([8] * size)
    chosen = torch.zeros(size, 8, dtype=torch.bool)
    chosen[:, [3, 6]] = True
    batch = batch.with_values("text", predicted=chosen)
    return specs, batch.with_name("length", {"class": torch.arange(size) % 2}, torch.tensor([1] * (size - 1) + [0]))


def test_each_slice_has_the_metrics_of_its_texts_alone() -> None:
    specs, batch = asked()
    whole = made_model()
    objective = made(whole, specs=specs, slices=["length"])
    check_objective(objective, whole, specs)
    metrics = objective.metrics(objective(whole, batch))
    for code, name in enumerate(("4", "8")):
        own = batch.select(torch.tensor([index for index in range(5) if index % 2 == code]))
        alone = objective.metrics(objective(whole, own))
        for metric in ("accuracy", "exact_match"):
            assert metrics[f"{metric}/length={name}"] == pytest.approx(alone[metric])
    assert set(metrics) == {"loss", *objective.directions}
    assert objective.train()(whole, batch).stats == {}, "a step of training has no slices"


def test_exact_are_texts_whose_predicted_ids_all_are_the_best() -> None:
    specs, batch = asked()
    whole = made_model()
    objective = made(whole, specs=specs)
    logits = objective.head.logits(whole, whole(objective.head.shift(batch)[0]).tokens("text"))
    best = logits.argmax(-1)
    ids = batch["text"]["ids"].clone()
    ids[0, [3, 6]] = best[0, [2, 5]]  # both
    ids[1, 6] = best[1, 5]
    ids[1, 3] = (best[1, 2] + 1) % ids.max()
    changed = batch.with_values("text", ids=ids).select(slice(0, 2))
    again = objective.head.logits(whole, whole(objective.head.shift(changed)[0]).tokens("text")).argmax(-1)
    right = again.gather(1, torch.tensor([[2, 5], [2, 5]])) == ids[:2, [3, 6]]
    assert objective.metrics(objective(whole, changed))["exact_match"] == right.all(1).float().mean()
    assert objective.metrics(objective(whole, changed))["accuracy"] == right.float().mean()


def test_an_answer_without_an_end_is_as_long_as_what_is_predicted() -> None:
    specs, batch = asked(2)
    whole = made_model()
    for example in made(whole, specs=specs).examples(whole, batch):
        assert len(example.predicted.split()) == len(example.truth.split()) == 4  # three are given, one is written
        assert example.right == (example.predicted == example.truth)
