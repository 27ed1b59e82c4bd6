"""Masked ids: which are hidden, what counts, and the loss by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import Letters, batch_of, image, image_spec, model, text, text_batch, text_spec
from contracts import check_objective
from torch import nn

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.objectives.base import Score
from mmtx.objectives.masked_token import MaskedToken

SPECS = {"text": text_spec(11, 20, Letters())}
"""Letters has nine letters; 9 begins a text and 10 ends it."""


def made(whole: Any = None, **changes: Any) -> tuple[Any, MaskedToken]:
    whole = whole or model({"text": text(SPECS["text"], causal=changes.pop("causal", False))})
    keys = {"weight": 1.0, "text": "text", "mask": 0, "share": 0.25, "activation": nn.GELU(), "norm_eps": 1e-12}
    return whole, MaskedToken(specs=SPECS, model=whole, **{**keys, **changes}).eval()


def prepare(objective: MaskedToken, whole: Any, batch: Batch, seed: int = 0) -> Batch:
    return objective.prepare(whole, batch, torch.Generator().manual_seed(seed))


def score_of(objective: MaskedToken, whole: Any, batch: Batch, seed: int = 0) -> Score:
    return objective(whole, prepare(objective, whole, batch, seed))


def test_contract() -> None:
    whole, objective = made()
    check_objective(objective, whole, SPECS)


def test_needs_its_text_beside_a_picture() -> None:
    whole = model({"text": text(SPECS["text"], causal=False), "image": image()})
    check_objective(made(whole)[1], whole, {**SPECS, "image": image_spec()})


@pytest.mark.parametrize("training", [True, False])
def test_loss_by_hand(training: bool) -> None:
    whole, objective = made()
    objective.train(training)
    batch = text_batch([20, 13, 1, 0])
    prepared = prepare(objective, whole, batch)
    score, ids, hidden = objective(whole, prepared), batch["text"]["ids"], prepared["text"]["ids"]
    chosen = prepared["text"]["chosen"]
    allowed = (torch.arange(20)[None] < batch.lengths["text"][:, None]) & (ids != 9) & (ids != 10)
    expected = [min(max(1, round(0.25 * n)), n) for n in allowed.sum(1).tolist()]
    assert chosen.sum(1).tolist() == expected
    assert not (chosen & ~allowed).any()
    assert torch.equal(hidden[~chosen], ids[~chosen])
    assert int(score.count) == int(objective.count(prepared)) == sum(expected)
    inputs = batch.with_name("text", {"ids": hidden}, batch.lengths["text"])
    states = objective.transform(whole(inputs).tokens("text"))
    logits = states @ whole.tokenizers["text"].embedding.weight.T + objective.bias
    loss = F.cross_entropy(logits[chosen], ids[chosen], reduction="sum")
    torch.testing.assert_close(score.loss_sum, loss)


def test_packed_rows_are_packed_and_say_the_same() -> None:
    """The loss is computed on real tokens only, and so are the examples."""
    whole, objective = made()
    batch, shapes = text_batch([20, 3, 1, 2]), []
    expected = score_of(objective, whole, batch).vector(), objective.examples(whole, batch)
    whole.backbone.blocks[0].register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    torch.testing.assert_close(score_of(objective, whole, batch.packed()).vector(), expected[0])
    assert objective.examples(whole, batch.packed()) == expected[1]
    assert shapes == [(1, 26, 24)] * 2


def test_eight_in_ten_become_the_mask() -> None:
    whole, objective = made(share=1.0)
    ids = torch.randint(1, 9, (400, 50))
    batch = batch_of({"text": {"ids": ids}}, {"text": [50] * 400})
    hidden = prepare(objective.train(), whole, batch)["text"]["ids"]
    assert float((hidden == 0).float().mean()) == pytest.approx(0.8 + 0.1 / 11, abs=0.01)
    assert float((hidden == ids).float().mean()) == pytest.approx(0.1 + 0.1 / 11, abs=0.01)


def test_training_hides_what_the_generator_of_its_step_draws() -> None:
    """And the global generator, which dropout draws from, is left as it is."""
    whole, objective = made()
    batch, before = text_batch([20, 13, 7]), torch.get_rng_state()
    first, again, other = (prepare(objective.train(), whole, batch, seed)["text"]["ids"] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    assert torch.get_rng_state().equal(before)


def test_evaluation_is_the_same_every_time() -> None:
    whole, objective = made()
    batch = text_batch([20, 13, 7])
    first, second = (score_of(objective, whole, batch, seed) for seed in (0, 1))
    assert torch.equal(first.loss_sum, second.loss_sum)
    together, alone = (prepare(objective, whole, part)["text"] for part in (batch, batch.select(slice(0, 1))))
    assert all(alone[key][0].equal(together[key][0]) for key in ("ids", "chosen"))
    assert len(objective.examples(whole, batch)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": True}, "must name a bidirectional text; nearest: modality.text.causal=false"),
        ({"mask": 11}, r"mask=11 must be an id of 0\.\.10"),
        ({"share": 0.0}, r"share=0.0 must lie in \(0, 1\]"),
    ],
)
def test_values_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(**changes)
