"""Scratch is trained on and not scored: what is written decides, whatever scratch the model wrote."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import backbone, model, text

from mmtx.batch import Batch
from mmtx.data.algorithmic.addition import Addition
from mmtx.data.collate import collate
from mmtx.errors import UserError
from mmtx.objectives import next_token
from mmtx.objectives.next_token import NextToken

TASK = Addition(hints=True, scratchpad=True)
SPECS = TASK.specs(3)


def made(specs: Any = SPECS) -> tuple[Any, NextToken]:
    whole = model({"text": text(SPECS["text"])}, backbone(init_std=0.1))
    keys: Any = {"weight": 1.0, "text": "text", "tied": True, "logit_scale": 1.0, "label_smoothing": 0.0}
    return whole, NextToken(specs=specs, model=whole, **keys).eval()


def batch_of(count: int = 6) -> Batch:
    return collate([TASK.draw(random.Random(seed), 3) for seed in range(count)], SPECS)


def test_an_answer_counts_whatever_the_scratch_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, (whole, objective) = batch_of(), made()
    width = batch["text"]["ids"].shape[1]
    true = [
        TASK.vocabulary.decode(row[chosen].tolist())
        for row, chosen in zip(batch["text"]["ids"], batch["text"]["predicted"], strict=True)
    ]
    answers = [words.partition(">")[2] for words in true]
    written = [
        true[0],
        f"a99=>{answers[1]}",
        true[2][:-1] + "=",
        f"{true[3]}{answers[3]}",
        f"{true[4].partition('>')[0]}>a{answers[4]}",
        f"{true[5].partition('>')[0]}{answers[5]}",
    ]
    most: list[int] = []

    def writes(*_: Any, max_new_tokens: int, **__: Any) -> list[list[int]]:
        most.append(max_new_tokens)
        return [TASK.vocabulary.encode(words) for words in written]

    monkeypatch.setattr(next_token, "generate", writes)
    assert [example.right for example in objective.examples(whole, batch)] == [True, True, False, False, False, False]
    score = objective(whole, batch)
    assert objective.metrics(score)["exact_match"] == pytest.approx(2 / 6)
    assert "accuracy" not in objective.metrics(score) and "accuracy" not in objective.directions
    assert most[0] < width
    written[0] = "0" * (most[0] - len(true[0])) + true[0]
    assert [example.right for example in objective.examples(whole, batch)][:2] == [False, True], "it has not ended"


def test_scratch_is_trained_on_as_any_other_ids() -> None:
    """The loss and what it counts are those of the same texts without the field."""
    batch, (whole, objective) = batch_of(), made()
    fields = {key: value for key, value in SPECS["text"].fields.items() if key != "scored"}
    plain = made({"text": replace(SPECS["text"], fields=fields)})[1]
    own = {key: value for key, value in batch["text"].items() if key != "scored"}
    found, expected = objective.train()(whole, batch), plain.train()(whole, batch.with_values("text", **own))
    assert torch.equal(found.loss_sum, expected.loss_sum) and int(found.count) == int(batch["text"]["predicted"].sum())


def test_texts_are_written_by_the_model_in_an_evaluation() -> None:
    """One that copies nothing writes no right answer, though every id be predicted."""
    batch, (whole, objective) = batch_of(3), made()
    with torch.no_grad():
        assert objective.metrics(objective(whole, batch))["exact_match"] == 0.0


def test_scratch_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"the data's 'text' has scratch before what is scored, and no id that ends it"):
        made({"text": replace(SPECS["text"], vocabulary=None)})
