"""Policy gradients: losses against their formulas written out, and against the gradient of everything enumerated."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from pathlib import Path
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
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.data.algorithmic.addition import Addition
from mmtx.data.algorithmic.countdown import Countdown
from mmtx.data.specs import conversation_spec
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives import policy_gradient
from mmtx.objectives.advantages import Method
from mmtx.objectives.log_probabilities import log_probabilities, read_text
from mmtx.objectives.number_expression import NumberExpression
from mmtx.objectives.policy_gradient import PolicyGradient
from mmtx.objectives.reward_frontier import draw_frontier, least_distance
from mmtx.objectives.rewards import Equation, ExactAnswer, Format, Occurrences, Reward, Written
from mmtx.objectives.text_rollouts import ROLLOUTS

LETTERS = Letters()
METHODS: list[Method] = ["grpo", "dr_grpo", "dapo", "rloo"]


def specs_of(vocabulary: Any = LETTERS) -> dict[str, Spec]:
    return {"image": image_spec(), "text": text_spec(vocabulary=vocabulary)}


def made(specs: Mapping[str, Spec], **changes: Any) -> tuple[MultimodalTransformer, PolicyGradient]:
    torch.manual_seed(0)
    tokenizers = {"image": image(), "text": text(specs["text"])}
    whole = model({name: tokenizers[name] for name in specs}, backbone(positions=POSITIONS["learned"], init_std=0.2))
    keys: dict[str, Any] = {"weight": 1.0, "text": "text", "rewards": {"b": Occurrences(piece="b", weight=1.0)}}
    keys |= {"method": "dapo", "group": 3, "max_new_tokens": 4, "beta": 0.0, "logit_scale": 1.0, "softcap": None}
    return whole, PolicyGradient(specs=specs, model=whole, **{**keys, **changes})


def learner_of(whole: MultimodalTransformer, objective: PolicyGradient, specs: Mapping[str, Spec]) -> Learner:
    """With a reference, from which the model has moved away."""
    learner = Learner(model=whole, objectives={"own": objective}, specs=specs)
    learner.freeze_reference()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return learner


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_contract() -> None:
    whole, objective = made(specs_of(), beta=0.1, group=2, method="ppo")
    learner_of(whole, objective, specs_of())
    check_objective(objective, whole, specs_of())


def begun(count: int) -> Batch:
    ids = torch.tensor([[9, 0, 1, 10]]).expand(count, -1)
    return merge(image_batch([1] * count), batch_of({"text": {"ids": ids}}, {"text": [4] * count}))


class Places(Reward):
    """The sum of the places of letters in the alphabet."""

    def __call__(self, written: Written) -> float:
        return float(sum(map("abcdefghi".index, written.text)))


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_and_its_gradient_are_those_of_the_formula(method: Method) -> None:
    """Text by text, without padding, as TRL has them: with the smaller of clipped and unclipped ratios to the policy
    that drew, which is the same."""
    beta, limit = 0.3, 7
    keys: dict[str, Any] = {"rewards": {"places": Places(weight=1.0)}, "max_new_tokens": limit, "logit_scale": 0.2}
    whole, objective = made(specs_of(), method=method, beta=beta, **keys)
    learner = learner_of(whole, objective, specs_of())
    batch = objective.prepare(whole, begun(2), generator())
    fields, reference = batch[ROLLOUTS], learner.references[0]
    losses, counts, rewards, rows = [], [], [], []
    for sample, rollout in itertools.product(range(2), range(3)):
        ids, drawn = fields["ids"][sample, rollout], fields["written"][sample, rollout]
        ids = ids[: int(drawn.nonzero().max()) + 1]
        one = batch.select(slice(sample, sample + 1))
        alone = one.with_name("text", {"ids": ids[None, :-1]}, torch.tensor([len(ids) - 1]))
        own, start = (
            (0.2 * each(alone).tokens("text")[0] @ objective.head.tied_vectors(each).T).log_softmax(-1)[
                range(len(ids) - 1), ids[1:]
            ]
            for each in (whole, reference)
        )
        rows.append((own, start.detach()))
        reward = float(ids[1:][ids[1:] < 9].sum())
        rewards.append(reward - beta * float((own - start).sum().detach()) if method == "rloo" else reward)
    grouped = torch.tensor(rewards).view(2, 3)
    assert (grouped.std(1) > 0).all(), "something is learnt from either sample"
    assert len({len(own) for own, _ in rows}) > 1, "of unequal lengths"
    for (own, start), reward, group in zip(rows, rewards, grouped.repeat_interleave(3, 0), strict=True):
        others = (group.sum() - reward) / 2
        advantage = {
            "rloo": reward - others,
            "dr_grpo": reward - group.mean(),
            "grpo": (reward - group.mean()) / (group.std() + 1e-4),
            "dapo": (reward - group.mean()) / (group.std() + 1e-4),
        }[method]
        if method == "rloo":  # one ratio for the whole text
            losses.append(-torch.exp(own.sum() - own.sum().detach()) * advantage)
            counts.append(1)
            continue
        ratio, away = torch.exp(own - own.detach()), torch.exp(start - own) - (start - own) - 1
        clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        each = -clipped + beta * away
        losses.append({"grpo": each.mean(), "dr_grpo": each.sum() / limit, "dapo": each.sum()}[method])
        counts.append(len(own) if method == "dapo" else 1)
    score, expected = objective(whole, batch), torch.stack(losses).sum()
    assert score.count == sum(counts)
    torch.testing.assert_close(score.loss_sum, expected, atol=1e-4, rtol=1e-4)
    parameters = [p for p in whole.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(each, parameters, allow_unused=True) for each in (score.loss_sum, expected)]
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_a_learned_baseline_gives_the_advantages_of_the_recursion() -> None:
    """By the definition, sums of what is ahead, text by text; and the loss of PPO of these."""
    beta, lam = 0.3, 0.95
    whole, objective = made(
        specs_of(), method="ppo", beta=beta, rewards={"places": Places(weight=1.0)}, logit_scale=0.2
    )
    learner = learner_of(whole, objective, specs_of())
    batch = objective.prepare(whole, begun(2), generator())
    assert objective.value is not None
    flat, expected, count = objective._rollouts.flat(batch), torch.zeros(()), 0
    text = read_text(whole, objective.head, flat)
    start = log_probabilities(learner.references[0], objective.head, flat)[0].detach()
    for row, reward in enumerate(batch[ROLLOUTS]["reward/places"].flatten().tolist()):
        places = text.real[row].nonzero()[:, 0].tolist()
        values = [objective.value.head(text.hidden[row, place])[0] for place in places]
        own = [text.own[row, place] for place in places]
        earned = [-beta * float((one - start[row, place]).detach()) for one, place in zip(own, places, strict=True)]
        earned[-1] += reward
        ahead = [float(value.detach()) for value in values] + [0.0]
        deltas = [earned[t] + ahead[t + 1] - ahead[t] for t in range(len(places))]
        for t in range(len(places)):
            gained = sum(lam**k * delta for k, delta in enumerate(deltas[t:]))
            expected = expected - torch.exp(own[t] - own[t].detach()) * gained
            expected = expected + 0.1 * (values[t] - (gained + ahead[t])) ** 2 / 2
        count += len(places)
    score = objective(whole, batch)
    assert score.count == count
    torch.testing.assert_close(score.loss_sum, expected, atol=1e-3, rtol=1e-4)
    parameters = [*whole.parameters(), *objective.value.parameters()]
    grads = [torch.autograd.grad(each, parameters, allow_unused=True) for each in (score.loss_sum, expected)]
    for one, other in zip(*grads, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert grads[0][-1] is not None and grads[0][-1].abs().max() > 0


class Table(Reward):
    """The reward of each text of two letters."""

    def __call__(self, written: Written) -> float:
        return {"ab": 1.0, "ba": -0.5, "cc": 2.0}.get(written.text, 0.1)


SLOW = pytest.param("dr_grpo", 0.0, marks=pytest.mark.slow)


@pytest.mark.parametrize(("method", "beta"), [("rloo", 0.5), SLOW])
def test_the_mean_gradient_of_roll_outs_is_the_exact_one(method: Method, beta: float) -> None:
    """Three ids, two are drawn: all nine texts are enumerated."""
    vocabulary = Letters("abc", marks=False)
    specs, group, samples = {"text": conversation_spec(vocabulary, 3)}, 4, 100
    keys: dict[str, Any] = {"rewards": {"table": Table(weight=1.0)}, "method": method, "beta": beta, "group": group}
    whole, objective = made(specs, max_new_tokens=2, **keys)
    learner = learner_of(whole, objective, specs)
    ids = torch.tensor([[0, *each] for each in itertools.product(range(3), repeat=2)])
    predicted = torch.tensor([False, True, True])

    def texts(rows: Tensor) -> Batch:
        fields = {"ids": rows, "predicted": predicted.expand(len(rows), -1)}
        return batch_of({"text": fields}, {"text": [3] * len(rows)})

    own, start = (
        log_probabilities(each, objective.head, texts(ids))[0].sum(1) for each in (whole, learner.references[0])
    )
    reward = torch.tensor(
        [Table(weight=1.0)(Written("", vocabulary.decode(row[1:].tolist()), "", False)) for row in ids]
    )
    exact_objective = (own.exp() * (reward - beta * (own - start.detach()))).sum()
    embedding = whole.tokenizers["text"].id_vectors
    (exact,) = torch.autograd.grad(-exact_objective, embedding)
    factor = (group - 1) / group / 2 if method == "dr_grpo" else 1.0  # of a mean that has the roll-out itself in it
    estimates = []
    for seed in range(20):
        score = objective(whole, objective.prepare(whole, texts(ids[:1].expand(samples, -1)), generator(seed)))
        estimates.append(torch.autograd.grad(score.loss_sum / score.count, embedding)[0])
    found = torch.stack(estimates)
    error = found.std(0) / len(found) ** 0.5
    z = (found.mean(0) - factor * exact) / error.clamp(min=1e-6)
    assert z.abs().max() < 5 and z.square().mean() < 2, "within sampling error"
    assert (factor * exact).abs().max() > 8 * error.max(), "which is small"


def test_where_all_rewards_are_one_only_the_distance_is_learnt() -> None:
    rewards = {"any": Format(pattern="x", weight=1.0)}
    for beta in (0.0, 0.5):
        whole, objective = made(specs_of(), rewards=rewards, beta=beta, method="grpo")
        learner_of(whole, objective, specs_of())
        score = objective(whole, objective.prepare(whole, begun(2), generator()))
        score.loss_sum.backward()
        largest = max(float(p.grad.abs().max()) for p in whole.parameters() if p.grad is not None)
        assert (largest > 1e-4) == (beta > 0)
        metrics = objective.metrics(score)
        assert metrics["silent"] == 1.0 and metrics["reward"] == 0.0 and metrics["kl"] > 0


def test_kl_is_that_of_the_texts() -> None:
    """Enumerated, as above."""
    vocabulary = Letters("abc", marks=False)
    specs = {"text": conversation_spec(vocabulary, 3)}
    whole, objective = made(specs, max_new_tokens=2, group=1000)
    learner = learner_of(whole, objective, specs)
    ids = torch.tensor([[0, *each] for each in itertools.product(range(3), repeat=2)])
    fields = {"ids": ids, "predicted": torch.tensor([False, True, True]).expand(9, -1)}
    batch = batch_of({"text": fields}, {"text": [3] * 9})
    own, start = (log_probabilities(each, objective.head, batch)[0].sum(1) for each in (whole, learner.references[0]))
    exact = float((own.exp() * (own - start)).sum().detach())
    metrics = objective.metrics(objective(whole, objective.prepare(whole, batch.select(slice(0, 1)), generator())))
    assert metrics["kl"] == pytest.approx(exact, rel=0.1) and exact > 0.05 and metrics["length"] == 2


def test_kl_of_an_evaluation_and_its_error_are_those_of_each_id_expected() -> None:
    """Enumerated, as above: the second id adds the KL of its distribution behind the first, which alone is drawn."""
    vocabulary, samples, group = Letters("abc", marks=False), 500, 2
    specs = {"text": conversation_spec(vocabulary, 3)}
    whole, objective = made(specs, max_new_tokens=2, group=group)
    learner = learner_of(whole, objective, specs)
    ids = torch.tensor([[0, *each] for each in itertools.product(range(3), repeat=2)])
    fields = {"ids": ids, "predicted": torch.tensor([False, True, True]).expand(9, -1)}
    batch = batch_of({"text": fields}, {"text": [3] * 9})
    own, start = (
        log_probabilities(each, objective.head, batch)[0].detach().sum(1).exp().view(3, 3)
        for each in (whole, learner.references[0])
    )
    first, second = (own.sum(1), start.sum(1)), (own / own.sum(1, True), start / start.sum(1, True))
    of_text = (first[0] * (first[0] / first[1]).log()).sum() + (second[0] * (second[0] / second[1]).log()).sum(1)
    mean = (first[0] * of_text).sum()
    error = float((((first[0] * of_text.square()).sum() - mean**2) / group / samples).sqrt())
    assert float(mean) == pytest.approx(float((own * (own / start).log()).sum()), rel=1e-4)
    same = batch.select(torch.zeros(samples, dtype=torch.long))
    objective.eval()
    metrics = objective.metrics(objective(whole, objective.prepare(whole, same, generator())))
    assert metrics["kl"] == pytest.approx(float(mean), abs=4 * error) and metrics["kl_error"] == pytest.approx(
        error, rel=0.15
    )
    alone = objective.metrics(objective(whole, objective.prepare(whole, batch.select(slice(0, 1)), generator())))
    assert math.isnan(alone["kl_error"]), "of one sample none is known"


def test_the_least_distance_is_that_of_the_reference_tilted_by_the_reward() -> None:
    """Nine texts, enumerated: p(x) e^{λ r(x)} / Z has the least distance of all policies with its reward."""
    before = torch.randn(9, generator=generator()).double().softmax(0)
    reward = torch.tensor([1, 0, 0, 1, 0, 0, 0, 1, 0], dtype=torch.double)
    for strength in (-2.0, 0.0, 1.0, 4.0):
        tilted = (before.log() + strength * reward).softmax(0)
        distance = float((tilted * (tilted / before).log()).sum())
        shares = float((tilted * reward).sum()), float((before * reward).sum())
        assert least_distance(*shares) == pytest.approx(distance, abs=1e-9)
    assert least_distance(0.5, 0.0) == least_distance(0.5, 1.0) == math.inf
    assert least_distance(1.0, 0.5) == pytest.approx(math.log(2)) and least_distance(0.0, 0.0) == 0


def test_a_picture_has_the_rewards_of_both_and_the_best_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards = {"b": Format(pattern=".*b.*", weight=1.0), "places": Places(weight=0.0)}
    whole, objective = made(specs_of(), rewards=rewards, group=40)
    learner_of(whole, objective, specs_of())
    seen: list[Any] = []
    monkeypatch.setattr(policy_gradient, "draw_frontier", lambda *given: (seen.extend(given), draw_frontier(*given)))
    objective.eval().plot(whole, begun(4), tmp_path / "plot.png")
    distance, reached, path = seen
    metrics = objective.metrics(objective(whole, objective.prepare(whole, begun(4), generator())))
    assert distance == pytest.approx(metrics["kl"]) and path.stat().st_size > 0
    assert [(each.name, each.is_share) for each in reached] == [("b", True), ("places", False)]
    assert [each.now for each in reached] == pytest.approx([metrics["reward_b"], metrics["reward_places"]])
    assert any(each.before != each.now for each in reached), "the reference is another model"


def test_evaluations_draw_others_in_each_batch_and_the_same_every_time() -> None:
    """With one prompt and one generator, as an evaluation has them; however the batch is padded."""
    whole, objective = made({"text": text_spec(vocabulary=LETTERS)})
    objective.eval()
    rows = [[9, 0, 1, 10, 0], [9, 0, 1, 10, 7], [9, 2, 1, 10, 0]]
    batches = [batch_of({"text": {"ids": torch.tensor([row] * 2)}}, {"text": [4, 4]}) for row in rows]
    one, padded, other = (objective.prepare(whole, batch, generator())[ROLLOUTS]["ids"] for batch in batches)
    assert one.equal(padded) and not one.equal(other)


def test_roll_outs_follow_from_the_generator_and_leave_the_model_as_it_was() -> None:
    whole, objective = made(specs_of())
    whole.train()
    one, again, other = (objective.prepare(whole, begun(2), generator(seed))[ROLLOUTS]["ids"] for seed in (0, 0, 1))
    assert one.equal(again) and not one.equal(other) and whole.training
    assert (one[:, :, 0] == 9).all() and len({tuple(row) for row in one[0].tolist()}) > 1


def test_roll_outs_end_with_the_context() -> None:
    whole, objective = made(specs_of(), max_new_tokens=None)
    drawn = objective.prepare(whole, begun(20), generator())[ROLLOUTS]["ids"]
    assert drawn.shape[2] == objective.head.context


def test_without_weight_nothing_is_drawn_in_training_and_evaluations_have_its_metrics() -> None:
    whole, objective = made(specs_of(), weight=0.0)
    learner_of(whole, objective, specs_of())
    assert objective.train().count(objective.prepare(whole, begun(2), generator())) == 0
    assert objective.eval().count(objective.prepare(whole, begun(2), generator())) > 0


def test_rewards() -> None:
    def of(reward: Reward, given: str = "", written: str = "", truth: str = "", ended: bool = True) -> float:
        return reward(Written(given, written, truth, ended))

    exact, forwards, backwards = ExactAnswer(weight=1.0), *(Equation(backwards=b, weight=1.0) for b in (False, True))
    assert [of(exact, written=w, truth="12") for w in ("12", "1", "123", "")] == [1, 0, 0, 0]
    assert of(exact, written="12", truth="12", ended=False) == 0
    assert [of(forwards, "59+42=", w) for w in ("101", "100", "0101", "", "+", "1=1")] == [1, 0, 1, 0, 0, 0]
    for length in range(1, 5):
        for seed in range(10):
            given, written = Addition().example(random.Random(seed), length)
            assert of(backwards, given + "=", written) == 1 and of(backwards, given + "=", written + "1") == 0
    assert [of(Format(pattern="[a-c]+", weight=1.0), written=w) for w in ("abc", "abd", "")] == [1, 0, 0]
    assert of(Occurrences(piece="aa", weight=1.0), written="aaaab") == 2
    with pytest.raises(UserError, match="no regular expression"):
        Format(pattern="(", weight=1.0)
    with pytest.raises(UserError, match="piece"):
        Occurrences(piece="", weight=1.0)


def test_expressions_of_numbers() -> None:
    """Whatever reaches the target, and nothing that only looks as if."""
    reward, drawn = NumberExpression(weight=1.0), random.Random(0)
    for length in (2, 3, 4):
        for _ in range(20):
            given, written = Countdown(largest=20).example(drawn, length)
            assert reward(Written(f"{given}=", written, "", True)) == 1
            assert reward(Written(f"{given}=", written, "", False)) == reward(Written(given, written, "", True)) == 0
    answers = {"25+3*7": 1, "(7*3)+25": 1, "25+21": 0, "25+3*7*1": 0, "25+7*3-3+3": 0, "46": 0, "": 0, "25+3*": 0}
    answers |= {"25--3*-7": 0, "+25+3*7": 0, "25+3*7 ": 0, "25+3*07": 0, "3**7+25": 0, "25/(3-3)*7": 0, "(" * 300: 0}
    assert {text: reward(Written("46:3,7,25=", text, "", True)) for text in answers} == answers
    quotient = {"8/(3-8/3)": 1, "8//(3-8/3)": 0}  # whose parts are not whole
    assert {text: reward(Written("24:3,3,8,8=", text, "", True)) for text in quotient} == quotient


def test_what_cannot_be_is_refused() -> None:
    for changes, problem in (
        ({"group": 1}, "group"),
        ({"beta": -1.0}, "beta"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"rewards": {"b": Occurrences(piece="b", weight=0.0)}}, "nothing is learnt"),
        ({"rewards": {}}, "nothing is learnt"),
    ):
        with pytest.raises(UserError, match=problem):
            made(specs_of(), **changes)
