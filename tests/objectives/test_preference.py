"""Preferences and reward models: losses against their formulas written out, and the optimum of all pairs enumerated."""

from __future__ import annotations

import itertools
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
    text_spec,
)
from contracts import check_objective
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.data.specs import conversation_spec
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Objective
from mmtx.objectives.preference import Preference
from mmtx.objectives.preference_losses import (
    HingePreference,
    PreferenceLoss,
    SigmoidPreference,
    SquaredPreference,
)
from mmtx.objectives.reward_model import RewardModel

LETTERS = Letters()
LOSSES: dict[str, PreferenceLoss] = {
    "sigmoid": SigmoidPreference(beta=0.5, label_smoothing=0.1),
    "squared": SquaredPreference(beta=0.5),
    "hinge": HingePreference(beta=0.5),
}


def specs_of(spec: Spec | None = None) -> dict[str, Spec]:
    spec = spec or text_spec(vocabulary=LETTERS)
    return {"image": image_spec(), "text": spec, "rejected": spec}


def made_model() -> MultimodalTransformer:
    torch.manual_seed(0)
    return model({"image": image(), "text": text()}, backbone(positions=POSITIONS["learned"], init_std=0.2))


def preference(whole: MultimodalTransformer, specs: Any = None, **changes: Any) -> Preference:
    keys: dict[str, Any] = {"weight": 1.0, "text": "text", "rejected": "rejected", "loss": LOSSES["sigmoid"]}
    keys |= {"length_norm": False, "logit_scale": 1.0, "softcap": None}
    return Preference(specs=specs or specs_of(), model=whole, **{**keys, **changes})


def with_reference(objective: Objective, whole: MultimodalTransformer, specs: Any = None) -> MultimodalTransformer:
    """Gives the objective its reference, and then moves the model away from it."""
    reference = Learner(model=whole, objectives={"own": objective}, specs=specs or specs_of()).freeze_reference()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return reference


def pairs() -> Batch:
    """Three pairs of unequal lengths, and one whose rejected text is absent."""
    rows = {
        "text": [[9, 0, 1, 10], [9, 2, 10], [9, 10], [9, 3, 10]],
        "rejected": [[9, 10], [9, 4, 5, 6, 10], [9, 7], []],
    }
    fields, lengths = {}, {}
    for name, texts in rows.items():
        longest = max(map(len, texts))
        fields[name] = {"ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids in texts])}
        lengths[name] = [len(ids) for ids in texts]
    return merge(image_batch([1] * 4), batch_of(fields, lengths))


def by_hand(whole: MultimodalTransformer, objective: Preference, batch: Batch, name: str, row: int) -> Tensor:
    """The log-probability of one text, alone."""
    ids = batch[name]["ids"][row, : int(batch.lengths[name][row])]
    alone = batch.select(slice(row, row + 1)).with_name("text", {"ids": ids[None, :-1]}, torch.tensor([len(ids) - 1]))
    scores = whole(alone).tokens("text")[0] @ objective.head.tied_vectors(whole).T
    return scores.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum()


def test_contract() -> None:
    """Of conversations, of which some ids are predicted; those below are predicted whole."""
    specs, whole = specs_of(conversation_spec(LETTERS, 8)), made_model()
    objective = preference(whole, specs, length_norm=True)
    with_reference(objective, whole, specs)
    check_objective(objective, whole, specs)


@pytest.mark.parametrize("length_norm", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_and_its_gradient_are_those_of_the_formula(loss: str, length_norm: bool) -> None:
    """Written out as in the papers, text by text, without padding."""
    whole, batch = made_model(), pairs()
    objective = preference(whole, loss=LOSSES[loss], length_norm=length_norm)
    reference, expected = with_reference(objective, whole), []
    for row in range(3):
        gains = []
        for name in ("text", "rejected"):
            ratio = (
                by_hand(whole, objective, batch, name, row) - by_hand(reference, objective, batch, name, row).detach()
            )
            gains.append(ratio / (int(batch.lengths[name][row]) - 1) if length_norm else ratio)
        gain, beta = gains[0] - gains[1], 0.5
        losses = {
            "sigmoid": 0.9 * torch.log1p(torch.exp(-beta * gain)) + 0.1 * torch.log1p(torch.exp(beta * gain)),
            "squared": (gain - 1 / (2 * beta)) ** 2,
            "hinge": torch.clamp(1 - beta * gain, min=0),
        }
        expected.append(losses[loss])
    score = objective(whole, batch)
    assert score.count == 3
    torch.testing.assert_close(score.loss_sum, sum(expected))
    parameters = [p for p in whole.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(each, parameters, allow_unused=True) for each in (score.loss_sum, sum(expected))]
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)  # sums of float32, some of them above 100
    assert any(grad is not None and grad.abs().max() > 1e-4 for grad in grads[0])


def test_before_the_first_step_nothing_is_gained() -> None:
    whole, batch = made_model(), pairs()
    objective = preference(whole, loss=SigmoidPreference(beta=0.1, label_smoothing=0.0))
    Learner(model=whole, objectives={"own": objective}, specs=specs_of()).freeze_reference()
    metrics = objective.metrics(objective(whole, batch))
    assert metrics.pop("loss") == pytest.approx(math.log(2))
    assert metrics == dict.fromkeys(metrics, 0.0)


def test_kl_is_that_of_the_reference_where_it_drew_the_texts() -> None:
    """All texts of one letter, as often as the reference draws them, on either side."""
    whole = made_model()
    objective = preference(whole)
    reference = with_reference(objective, whole)
    rest, begin = image_batch([1]), torch.tensor([[9]])
    states = [
        each(merge(rest, batch_of({"text": {"ids": begin}}, {"text": [1]}))).tokens("text")[0, 0]
        @ objective.head.tied_vectors(each).T
        for each in (reference, whole)
    ]
    before, now = (scores.log_softmax(-1).detach() for scores in states)
    ids = torch.stack([torch.full((11,), 9), torch.arange(11)], dim=1)
    texts = batch_of({name: {"ids": ids} for name in ("text", "rejected")}, {n: [2] * 11 for n in ("text", "rejected")})
    batch = merge(image_batch([1] * 11), texts)
    batch = batch.with_name("image", {"pixels": rest["image"]["pixels"].expand(11, -1, -1, -1)}, torch.ones(11).long())
    gains = objective._gains(whole, batch)
    torch.testing.assert_close((before.exp() * -gains.chosen).sum(), (before.exp() * (before - now)).sum())
    assert objective.metrics(objective(whole, batch))["kl"] == pytest.approx(float((before - now).mean()), abs=1e-5)


def test_the_optimum_of_all_pairs_is_the_reference_tilted_by_the_reward() -> None:
    """Texts of two of three ids, enumerated; π is a table. Pairs are drawn from π_ref, and preferred as Bradley and
    Terry have it; the loss of all of them, each with its probability, is least where log π/π_ref = r/β + const."""
    generator, beta = torch.Generator().manual_seed(0), 0.5
    texts = list(itertools.product(range(3), repeat=2))
    reward = torch.randn(len(texts), generator=generator, dtype=torch.double)
    before = torch.randn(len(texts), generator=generator, dtype=torch.double).log_softmax(0)
    first, second = torch.tensor(list(itertools.product(range(9), repeat=2))).T
    weights = (before[first] + before[second]).exp() * torch.sigmoid(reward[first] - reward[second])
    scores, loss = nn.Parameter(before.clone()), SigmoidPreference(beta=beta, label_smoothing=0.0)
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        gain = scores.log_softmax(0) - before
        total = (weights * loss(gain[first] - gain[second])).sum()
        total.backward()
        return total

    for _ in range(5):
        optimizer.step(closure)  # type: ignore[arg-type]
    gain = (scores.log_softmax(0) - before).detach()
    torch.testing.assert_close(gain - gain.mean(), (reward - reward.mean()) / beta, atol=1e-4, rtol=1e-4)


def reward_model(whole: MultimodalTransformer, specs: Any = None) -> RewardModel:
    return RewardModel(specs=specs or specs_of(), model=whole, weight=1.0, text="text", rejected="rejected")


def test_contract_of_reward_models() -> None:
    whole = made_model()
    check_objective(reward_model(whole), whole, specs_of())


def test_a_reward_is_read_at_the_last_real_token() -> None:
    whole, batch = made_model().eval(), pairs()
    objective = reward_model(whole)
    margins = []
    for row in range(3):
        rewards = []
        for name in ("text", "rejected"):
            ids = batch[name]["ids"][row : row + 1, : int(batch.lengths[name][row])]
            alone = batch.select(slice(row, row + 1)).with_name("text", {"ids": ids}, torch.tensor([ids.shape[1]]))
            rewards.append((whole(alone).tokens("text")[0, -1] @ objective.head.weight[0]).item())
        margins.append(rewards[0] - rewards[1])
    score = objective(whole, batch)
    assert score.loss_sum.item() == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins), abs=1e-5)
    assert objective.metrics(score)["margin"] == pytest.approx(sum(margins) / 3, abs=1e-5)
    assert objective.outputs(whole, batch)["reward"].shape == (4,)


def test_what_cannot_be_compared_is_refused() -> None:
    whole, own = made_model(), text_spec(vocabulary=LETTERS)
    for other, problem in (
        (text_spec(vocabulary=Letters("abcdefghj")), "same kind and vocabulary"),
        (conversation_spec(LETTERS, 8), "same kind and vocabulary"),
        (replace(own, fields={"ids": replace(own.fields["ids"], max_length=12)}), "modality.text.context=12"),
    ):
        with pytest.raises(UserError, match=problem):
            preference(whole, {**specs_of(own), "rejected": other})
    with pytest.raises((UserError, ValueError), match="rejected=nowhere"):
        preference(whole, rejected="nowhere")
    with pytest.raises(UserError, match="is in the set"):
        preference(whole, rejected="text")
    for beta in (0.0, -1.0):
        with pytest.raises(UserError, match="beta"):
            SquaredPreference(beta=beta)
