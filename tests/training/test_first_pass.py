"""Sums over a whole step, which are known before its gradients are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import KINDS, backbone, model, text, text_batch, text_spec
from outside_module import outside_module
from torch import Tensor

from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.nn.layer_kind import LayerKind
from mmtx.objectives.base import Score
from mmtx.objectives.next_token import NextToken
from mmtx.training.first_pass import known_sums
from mmtx.training.loss_normalisation import count_predictions, normalised_loss

EXPERTS = outside_module("router/my_lab/experts.py")
LENGTHS = [5, 8, 2, 3, 1, 8, 7, 2, 4, 4, 6, 1, 8, 3, 2, 5]
WHOLE = text_batch(LENGTHS)
"""One batch; a rank has four micro-batches of two samples."""
RANKS = [[WHOLE.select(slice(8 * rank + 2 * i, 8 * rank + 2 * i + 2)) for i in range(4)] for rank in range(2)]


def made(dropout: float = 0.3) -> Learner:
    experts = LayerKind(mlp=partial(EXPERTS.Experts, num_experts=3, hidden=16))
    whole = model({"text": text()}, backbone(num_layers=4, layers="GE", kinds={**KINDS, "E": experts}, dropout=dropout))
    keys: dict[str, Any] = {"text": "text", "tied": True, "logit_scale": 1.0, "label_smoothing": 0.0}
    main = NextToken(specs={"text": text_spec()}, model=whole, weight=1.0, **keys)
    balance = EXPERTS.Balance(specs={}, model=whole, weight=0.5)
    return (
        Learner(model=whole, objectives={"balance": balance, "main": main}, specs={"text": text_spec()})
        .double()
        .train()
    )


class Dropout:
    """Stands in for torch's: keeps the masks of each micro-batch, or puts those of micro-batches side by side."""

    def __init__(self) -> None:
        self.masks: list[list[Tensor]] = []
        self.replayed: list[Tensor] | None = None

    def __call__(self, x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        if self.replayed is not None:
            return x * self.replayed.pop(0)
        self.masks[-1].append(DROPOUT(torch.ones_like(x), p, training))
        return x * self.masks[-1][-1]


DROPOUT = F.dropout


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def known(learner: Learner, batches: Sequence[Batch], **given: Any) -> Iterator[None]:
    """`known_sums` of batches, seeded by nobody and on one rank unless a test says otherwise."""
    keys: dict[str, Any] = {"seed": lambda: None, "gather": None, **given}
    with known_sums(learner, [learner.prepare(batch) for batch in batches], **keys):
        yield


def gradients(learner: Learner) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in learner.named_parameters() if parameter.grad is not None}
    learner.zero_grad()
    return found


def backward(
    learner: Learner, batches: Sequence[Batch], masks: list[list[Tensor]], **given: Any
) -> list[dict[str, Score]]:
    """Both passes of a rank; the gradient is added up."""
    counts, scores = count_predictions(learner, [learner.prepare(WHOLE)], torch.device("cpu")), []
    with known(learner, batches, **given):
        for batch in batches:
            masks.append([])
            scores.append(learner(batch))
            normalised_loss(learner, scores[-1], counts, 1).backward()
    return scores


def balance_by_hand(learner: Learner) -> float:
    """The number of experts times sum_e f_e P_e of the set, meant over layers (equations 4 to 6 of the paper)."""
    logits: list[Tensor] = []
    routers = [layer.mlp.router for layer in learner.model.backbone.blocks if isinstance(layer.mlp, EXPERTS.Experts)]
    hooks = [router.register_forward_hook(lambda _, args, output: logits.append(output)) for router in routers]
    with torch.no_grad():
        learner.objective("main")(learner.model, WHOLE)
    losses = []
    for of_layer in logits:
        real = [of_layer[i, t].softmax(-1) for i, length in enumerate(LENGTHS) for t in range(length - 1)]
        chosen = [int(p.argmax()) for p in real]
        share = [chosen.count(e) / len(real) for e in range(3)]
        losses.append(3 * sum(share[e] * sum(float(p[e]) for p in real) / len(real) for e in range(3)))
    for hook in hooks:
        hook.remove()
    return sum(losses) / len(losses)


def test_one_batch_is_four_micro_batches_on_two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 with dropout, whose masks are those that the micro-batches drew."""
    monkeypatch.setattr(F, "dropout", dropout := Dropout())
    with float64():
        learner = made()
        seeds = [lambda rank=rank: torch.manual_seed(rank) and None for rank in range(2)]
        collected: list[Any] = []
        for rank in range(2):
            dropout.masks.append([])
            with known(learner, RANKS[rank], seed=seeds[rank], gather=lambda own: collected.append(own) or [own]):
                pass
        first, dropout.masks = [mask for masks in dropout.masks for mask in masks], []
        scores = []
        for rank in range(2):
            dropout.masks.append([])
            scores += backward(learner, RANKS[rank], dropout.masks, seed=seeds[rank], gather=lambda own: collected)
            del dropout.masks[-5]  # of the first pass
        second = [mask for masks in dropout.masks for mask in masks]
        assert len(first) == len(second) and all(map(torch.equal, first, second)), "both passes draw the same"
        cut = gradients(learner)

        side_by_side = [torch.cat(masks) for masks in zip(*dropout.masks, strict=True)]
        dropout.replayed = side_by_side * 2  # for both passes
        (score,) = backward(learner, [WHOLE], [])
        whole = gradients(learner)
        assert cut.keys() == whole.keys() and any("router" in name for name in cut)
        for name, value in whole.items():
            torch.testing.assert_close(cut[name], value, rtol=1e-10, atol=1e-12, msg=name)

        sums = sum(each["balance"].vector() for each in scores)
        torch.testing.assert_close(sums, score["balance"].vector(), rtol=1e-12, atol=0)
        dropout.replayed = side_by_side
        expected = balance_by_hand(learner)
        assert score["balance"].mean_loss() == pytest.approx(expected, rel=1e-12)


def test_the_sums_matter() -> None:
    """From those of micro-batches alone, the loss would be another."""
    learner = made(dropout=0.0).float()
    alone = sum(learner(batch)["balance"].vector() for rank in RANKS for batch in rank)
    loss = learner(WHOLE)["balance"].mean_loss()
    assert abs(float(alone[0] / alone[1]) - loss) > 1e-4


def test_a_rank_without_samples_for_an_objective() -> None:
    learner = made(dropout=0.0).float()
    gather = lambda own: [own, [{}]]  # noqa: E731
    with known(learner, RANKS[0], gather=gather):
        one = learner(RANKS[0][0])["balance"].loss_sum
    with known(learner, RANKS[0]):
        assert learner(RANKS[0][0])["balance"].loss_sum.equal(one)
    with known(learner, [], gather=lambda own: [[{"samples": torch.tensor(3)}], own]):
        assert learner.objective("balance").sum_over_step({}) == {"samples": 3}


def test_casts_of_the_first_pass_are_not_kept() -> None:
    """A weight that was cast without gradients would have none in the second."""
    learner = made(dropout=0.0).float()
    with torch.autocast("cpu", torch.bfloat16), known(learner, [WHOLE]):
        scores = learner(WHOLE)
    (scores["main"].loss_sum + scores["balance"].loss_sum).backward()
    assert all(parameter.grad is not None for parameter in learner.parameters())


def test_an_objective_says_that_it_uses_them() -> None:
    learner = made()
    with pytest.raises(ValueError, match="NextToken has sums over a step only with uses_statistics = True"):
        learner.objective("main").sum_over_step({})
    del learner.objectives["balance"]
    with known(learner, [WHOLE], seed=lambda: pytest.fail("nothing asks for a first pass")):
        pass
