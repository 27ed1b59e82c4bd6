"""Online learning in a toy environment: steps as they were acted, the gradient, and that returns rise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, model, series, text
from contracts import check_objective
from toy_environment import ALL, CONTEXT, SCALE, SPECS, VECTORS, Toy, made, steps_of

from mmtx.batch import Batch, fake_batch
from mmtx.environment import FIRST_SEED
from mmtx.errors import UserError
from mmtx.experiment.environments import let_act
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned
from mmtx.objectives.action_by_return import ActionByReturn
from mmtx.objectives.advantages import Method
from mmtx.objectives.text_rollouts import ROLLOUTS
from mmtx.tokens import Clock

METHODS: list[Method] = ["grpo", "dr_grpo", "dapo", "rloo", "ppo"]


def objective_of(whole: MultimodalTransformer, **changes: Any) -> ActionByReturn:
    """With an environment."""
    keys: dict[str, Any] = {"weight": 1.0, "action": "action", "read": "state", "val_episodes": 2, "test_episodes": 3}
    keys |= {"target_returns": None, "temperature": 0.0, "method": "dr_grpo", "group": 4}
    objective = ActionByReturn(specs=SPECS, model=whole, **{**keys, **changes})
    objective.play_in("", Toy())
    return objective


def online(names: Sequence[str] = ALL, **changes: Any) -> tuple[MultimodalTransformer, ActionByReturn, Toy]:
    """Weights so large that observations matter, and a head that leaves actions open."""
    whole, _ = made(names)
    objective, source = objective_of(whole, **changes), Toy()
    with torch.no_grad():
        objective.head.weight *= 0.2
    objective.play_in("", source)
    return whole, objective, source


def unlearnt(names: Sequence[str]) -> MultimodalTransformer:
    """Weights as a run begins with them."""
    torch.manual_seed(0)
    tokenizers = {name: text(SPECS[name]) if name == "mission" else series(SPECS[name]) for name in names}
    return model(tokenizers, backbone(positions=POSITIONS["learned"]), clocks={"step": Clock(embedding=Learned)})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prepared(whole: MultimodalTransformer, objective: ActionByReturn, seed: int = 0) -> Batch:
    with torch.no_grad():
        return objective.prepare(whole, fake_batch(SPECS, 3), generator(seed))


@pytest.mark.parametrize("method", ["dapo", "ppo"])
def test_contract(method: Method) -> None:
    whole, objective, _ = online(method=method, group=2)
    check_objective(objective, whole, SPECS)


@pytest.mark.parametrize("names", [ALL, ("state",), ("state", "action")], ids="+".join)
def test_each_step_has_the_probability_with_which_it_was_drawn(names: Sequence[str]) -> None:
    """Acted again one step after another, each in the window that the model had then: episodes are replayed by hand."""
    whole, objective, source = online(names)
    batch = prepared(whole, objective)
    drawn, (_, environment) = objective._drawn(whole, batch), source.environments[0]
    seeds, taken = environment.seeds, torch.stack(environment.taken, 1)
    assert drawn.written.sum(1).tolist() == [steps_of(seed) for seed in seeds]
    assert max(map(steps_of, seeds)) > CONTEXT + 1, "some windows are not the first"
    numbers = torch.tensor([seed % 3 for seed in seeds])[:, None] + (1 + taken).cumsum(1) - (1 + taken)
    rewards = (taken % 2 == numbers % 2).float()
    for episode, seed in enumerate(seeds):
        for step in range(steps_of(seed)):
            first = max(0, step + 1 - CONTEXT)
            there = range(first, step + 1)
            states = [[n / 5, n % 2 - 0.5, seed % 5 - 2.0] for n in numbers[episode, first : step + 1].tolist()]
            earned = [float(rewards[episode, :each].sum()) for each in there]
            fields = {
                "mission": {"ids": torch.arange(1 + seed % 4)[None]},
                "return": {"values": (6 - torch.tensor(earned))[None, :, None] / SCALE},
                "reward": {
                    "values": torch.tensor([rewards[episode, t - 1] if t else 0.0 for t in there])[None, :, None]
                    / SCALE
                },
                "state": {"values": torch.tensor(states)[None]},
                "action": {"class": taken[episode, first : step + 1][None]},
            }
            times = torch.tensor([*there])[None]
            fields = {name: own | ({} if name == "mission" else {"times": times}) for name, own in fields.items()}
            lengths = {name: torch.tensor([len(next(iter(own.values()))[0])]) for name, own in fields.items()}
            scores = objective.predict(whole(Batch(fields, lengths)), len(there))[0, -1]
            expected = scores.log_softmax(-1)[taken[episode, step]]
            torch.testing.assert_close(drawn.own[episode, step], expected, atol=1e-4, rtol=1e-4)
    for episode, seed in enumerate(seeds):
        own = rewards[episode, : steps_of(seed)]
        assert drawn.rewards.flatten()[episode] * SCALE == own.sum()
        assert (drawn.earned[episode, : steps_of(seed)] * SCALE).equal(own)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_advantages_times_log_probabilities(method: Method) -> None:
    """Ratios are 1 with the gradient of the log-probability; without a value that has been learnt, the advantage of
    PPO's is what is still to be earned, in generalised form."""
    whole, objective, _ = online(method=method)
    batch = prepared(whole, objective)
    if objective.value is not None:
        torch.nn.init.zeros_(objective.value.head.weight)
    score, drawn = objective(whole, batch), objective._drawn(whole, batch)
    group, count = drawn.rewards.shape[1], len(drawn.own)
    expected = torch.zeros(())
    for episode in range(count):
        sample, real = divmod(episode, group)[0], drawn.written[episode]
        rewards, steps = drawn.rewards[sample], int(real.sum())
        own, reward = drawn.own[episode, :steps], drawn.rewards.flatten()[episode]
        advantage = {
            "dr_grpo": reward - rewards.mean(),
            "rloo": reward - (rewards.sum() - reward) / (group - 1),
        }.get(method, (reward - rewards.mean()) / (rewards.std() + 1e-4))
        if method == "ppo":
            ahead = [sum(0.95 ** (k - t) * drawn.earned[episode, k] for k in range(t, steps)) for t in range(steps)]
            expected = expected - (own * torch.tensor(ahead)).sum()
        else:
            share = {"grpo": 1 / steps, "dr_grpo": 1 / 7, "dapo": 1.0, "rloo": 1.0}[method]
            expected = expected - advantage * own.sum() * share
    parameters = [*whole.backbone.parameters(), *objective.head.parameters()]
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (score.loss_sum, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert score.count == (drawn.written.sum() if method in ("dapo", "ppo") else count)


def test_episodes_follow_from_the_generator_and_those_of_a_sample_begin_alike() -> None:
    whole, objective, source = online()
    torch.rand(3)
    one, other, again = (prepared(whole, objective, seed) for seed in (0, 1, 0))
    assert all(one[ROLLOUTS][key].equal(again[ROLLOUTS][key]) for key in one[ROLLOUTS])
    seeds = [environment.seeds for _, environment in source.environments]
    assert seeds[0] == seeds[2] != seeds[1]
    assert seeds[0] == [seed for seed in seeds[0][::4] for _ in range(4)]
    assert all(seed < FIRST_SEED["val"] for own in seeds for seed in own)
    actions = one[ROLLOUTS]["action/class"][0]
    assert len({tuple(row) for row in actions.tolist()}) > 1, "actions are drawn for each episode"
    assert source.environments[0][1].closed
    assert not one[ROLLOUTS]["action/class"].equal(other[ROLLOUTS]["action/class"])


@pytest.mark.parametrize(
    ("names", "method", "rate"),
    [(("state",), "dapo", 3e-3), (("mission", "return", "state", "action"), "ppo", 1e-2)],
    ids=["policy", "decision transformer with missions"],
)
def test_returns_rise(names: Sequence[str], method: Method, rate: float) -> None:
    """Half of the steps are right by chance, and soon nearly all."""
    whole = unlearnt(names)
    objective = objective_of(whole, method=method, group=8)
    learner = Learner(model=whole, objectives={"own": objective}, specs=SPECS).train()
    optimizer, shares = torch.optim.Adam(learner.parameters(), lr=rate), []
    for step in range(22):
        score = learner(learner.prepare(fake_batch(SPECS, 4), generator(step)))["own"]
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
        metrics = objective.metrics(score)
        shares.append(metrics["return"] / metrics["length"])
    assert shares[0] < 0.7 and sum(shares[-5:]) / 5 > 0.9, shares


def test_in_evaluations_it_is_the_loss_on_the_data() -> None:
    whole, objective, source = online()
    batch, objective = fake_batch(SPECS, 3), objective.eval()
    assert objective.prepare(whole, batch, generator()) is batch and not source.environments
    assert set(objective.metrics(objective(whole, batch))) == {"loss", "accuracy"}


def test_what_is_wrong() -> None:
    whole, objective, _ = online()
    with pytest.raises(UserError, match=r"^group=1 must be at least 2"):
        online(group=1)
    with pytest.raises(UserError, match=r"^data\.parts\.arm has no environment to act in"):
        objective.play_in("arm", Toy(can_play=False))
    learner = Learner(model=whole, objectives={"own": objective}, specs=SPECS)
    with pytest.raises(UserError, match=r"^data has no environment to act in"):
        let_act(learner, Toy(can_play=False))
    vectors, _ = made(("state",), VECTORS)
    keys: dict[str, Any] = {"val_episodes": 2, "test_episodes": 3, "target_returns": None, "temperature": 0.0}
    with pytest.raises(UserError, match=r"^action=action has numbers"):
        ActionByReturn(
            specs=VECTORS, model=vectors, weight=1.0, action="action", read="state", method="dapo", group=2, **keys
        )
