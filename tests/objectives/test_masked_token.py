"""Masked ids: which are hidden, what counts, and the loss by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import Letters, image, image_spec, model, text, text_batch, text_spec
from contracts import check_objective
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.objectives.masked_token import MaskedToken

SPECS = {"text": text_spec(11, 20, Letters())}
"""Letters has nine letters; 9 begins a text and 10 ends it."""


def made(whole: Any = None, **changes: Any) -> tuple[Any, MaskedToken]:
    whole = whole or model({"text": text(SPECS["text"], causal=changes.pop("causal", False))})
    keys = {"weight": 1.0, "text": "text", "mask": 0, "share": 0.25, "activation": nn.GELU(), "norm_eps": 1e-12}
    return whole, MaskedToken(specs=SPECS, model=whole, **{**keys, **changes}).eval()


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
    chosen = None
    original = objective._choose

    def record(allowed: Any) -> Any:
        nonlocal chosen
        chosen = original(allowed)
        return chosen

    objective._choose = record  # type: ignore[method-assign]
    hidden: list[torch.Tensor] = []
    original_hide = objective._hide

    def record_hidden(ids: Any, which: Any) -> Any:
        hidden.append(original_hide(ids, which))
        return hidden[0]

    objective._hide = record_hidden  # type: ignore[method-assign]
    score, ids = objective(whole, batch), batch["text"]["ids"]
    assert chosen is not None
    allowed = (torch.arange(20)[None] < batch.lengths["text"][:, None]) & (ids != 9) & (ids != 10)
    expected = [min(max(1, round(0.25 * n)), n) for n in allowed.sum(1).tolist()]
    assert chosen.sum(1).tolist() == expected
    assert not (chosen & ~allowed).any()
    assert torch.equal(hidden[0][~chosen], ids[~chosen])
    assert int(score.count) == int(objective.count(batch)) == sum(expected)
    inputs = batch.with_name("text", {"ids": hidden[0]}, batch.lengths["text"])
    states = objective.transform(whole(inputs).tokens("text"))
    logits = states @ whole.tokenizers["text"].embedding.weight.T + objective.bias
    loss = F.cross_entropy(logits[chosen], ids[chosen], reduction="sum")
    torch.testing.assert_close(score.loss_sum, loss)


def test_packed_rows_are_packed_and_say_the_same() -> None:
    """The loss is computed on real tokens only, and so are the examples."""
    whole, objective = made()
    batch, shapes = text_batch([20, 3, 1, 2]), []
    expected = objective(whole, batch).vector(), objective.examples(whole, batch)
    whole.backbone.blocks[0].register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    torch.testing.assert_close(objective(whole, batch.packed()).vector(), expected[0])
    assert objective.examples(whole, batch.packed()) == expected[1]
    assert shapes == [(1, 26, 24)] * 2


def test_eight_in_ten_become_the_mask() -> None:
    _, objective = made(share=1.0)
    ids = torch.randint(1, 9, (400, 50))
    torch.manual_seed(0)
    hidden = objective.train()._hide(ids, torch.ones_like(ids, dtype=torch.bool))
    assert float((hidden == 0).float().mean()) == pytest.approx(0.8 + 0.1 / 11, abs=0.01)
    assert float((hidden == ids).float().mean()) == pytest.approx(0.1 + 0.1 / 11, abs=0.01)


def test_evaluation_is_the_same_every_time() -> None:
    whole, objective = made()
    batch = text_batch([20, 13, 7])
    first, second = objective(whole, batch), objective(whole, batch)
    assert torch.equal(first.loss_sum, second.loss_sum)
    alone = objective(whole, text_batch([20, 13, 7]).select(slice(0, 1)))
    assert float(alone.loss_sum) < float(first.loss_sum)
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
