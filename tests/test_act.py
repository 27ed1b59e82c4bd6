"""Roll-outs in a toy world, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import POSITIONS, action, backbone, label_spec, model, series, series_spec, text, text_spec
from torch import Tensor

from mmtx.acting import policy_eval
from mmtx.acting.policy_eval import FIRST_SEED, acting_objective, play, play_metrics
from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import Samples, Source
from mmtx.data.collate import collate
from mmtx.data.episodes.episode_source import FIRST_DATA_SEED
from mmtx.decoding.rollouts import Episode, History, roll_out
from mmtx.errors import UserError
from mmtx.evaluate import acting_metrics
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned
from mmtx.objectives.action import Action
from mmtx.objectives.classify import Classify
from mmtx.objectives.pooling import MeanPool
from mmtx.tokens import Clock
from mmtx.world import Observation, Outcome, Playable, World

CONTEXT, MAX_STEPS, SCALE = 3, 7, 2.0


def steps_of(seed: int) -> int:
    return 2 + seed % 6


class Counter(World):
    """A number that every action is added to, and one more; whoever names its parity earns 1. Over after a number of
    steps that depends on the seed; a success if the last action earned something."""

    def __init__(self, continuous: bool = False) -> None:
        self.continuous, self.closed, self.taken = continuous, False, []

    @property
    def max_steps(self) -> int:
        return MAX_STEPS

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self.seeds, self.time, self.taken = list(seeds), 0, []
        self.number = torch.tensor([seed % 3 for seed in seeds])
        return self._see(), [{"mission": {"ids": torch.arange(1 + seed % 4)}} for seed in seeds]

    def step(self, actions: Tensor) -> Outcome:
        self.taken.append(actions)
        chosen = (actions[:, 0] > 0).long() if self.continuous else actions
        right = chosen % 2 == self.number % 2
        self.time += 1
        over = torch.tensor([self.time >= steps_of(seed) for seed in self.seeds])
        self.number = self.number + 1 + chosen
        return Outcome(self._see(), right.float(), over, right & over)

    def frame(self, index: int) -> Tensor:
        return torch.full((3, 2, 2), self.seeds[index] + self.time / 100)

    def close(self) -> None:
        self.closed = True

    def _see(self) -> Observation:
        return [
            {"state": {"values": torch.tensor([n / 5, n % 2 - 0.5, seed % 5 - 2.0])}}
            for n, seed in zip(self.number.tolist(), self.seeds, strict=True)
        ]


SPECS: dict[str, Spec] = {
    "mission": text_spec(max_length=4),
    "return": series_spec(1, max_length=CONTEXT, num_times=MAX_STEPS),
    "reward": series_spec(1, max_length=CONTEXT, num_times=MAX_STEPS),
    "state": series_spec(3, max_length=CONTEXT, num_times=MAX_STEPS),
    "action": series_spec(num_classes=4, max_length=CONTEXT, num_times=MAX_STEPS),
}
VECTORS = {**SPECS, "action": series_spec(2, max_length=CONTEXT, num_times=MAX_STEPS)}


def _of_context(spec: Spec, context: int) -> dict[str, Any]:
    return {key: replace(field, max_length=context) for key, field in spec.fields.items()}


ALL = ("mission", "return", "reward", "state", "action")
SEEDS = [3, 0, 11, 4, 1, 8]
"""Episodes of 5, 2, 7, 6, 3 and 4 steps; missions of 4, 1, 4, 1, 2 and 1 words."""
TARGETS = [5.0, 1.0, 3.0, -2.0, 0.0, 7.0]


def made(
    names: Sequence[str] = ALL, specs: Mapping[str, Spec] = SPECS, scheme: str = "learned", **changes: Any
) -> tuple[MultimodalTransformer, Action]:
    """Weights so large that what is heard decides what is done."""
    torch.manual_seed(0)
    tokenizers = {name: text(specs[name]) if name == "mission" else series(specs[name]) for name in names}
    body = backbone(positions=POSITIONS[scheme], init_std=0.6)
    whole = model(tokenizers, body, clocks={"step": Clock(embedding=Learned)})
    return whole, action(whole, specs, **changes)


def rolled(
    seeds: Sequence[int] = SEEDS,
    targets: Sequence[float] | None = TARGETS,
    *,
    names: Sequence[str] = ALL,
    specs: Mapping[str, Spec] = SPECS,
    num_filmed: int = 0,
    cache: bool = True,
    **changes: Any,
) -> tuple[list[Episode], Counter, list[Batch]]:
    """Episodes, the world they took place in, and the batches that the model heard."""
    whole, objective = made(names, specs, **changes)
    world, seen = Counter(continuous=specs is VECTORS), []
    tokenize = whole.tokenize
    whole.tokenize = lambda batch: (seen.append(batch), tokenize(batch))[1]  # type: ignore[method-assign]
    episodes = roll_out(
        whole,
        objective,
        specs,
        world,
        seeds,
        target_returns=targets,
        return_scale=SCALE,
        num_filmed=num_filmed,
        cache=cache,
    )
    return episodes, world, seen


def actions_of(world: Counter, index: int) -> list[Any]:
    """Of one episode, while it lasted."""
    return [taken[index].tolist() for taken in world.taken[: steps_of(world.seeds[index])]]


def check_close(actual: list[Any], expected: list[Any]) -> None:
    """Classes equal; numbers up to what another size of batch changes."""
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), atol=1e-3, rtol=1e-3)


def test_an_episode_is_what_came_of_its_actions() -> None:
    """Earned, length and success, replayed by hand."""
    episodes, world, _ = rolled()
    assert len({tuple(actions_of(world, i)) for i in range(len(SEEDS))}) > 3, "the model does not do the same always"
    for index, (seed, episode) in enumerate(zip(SEEDS, episodes, strict=True)):
        number, earned, right = seed % 3, 0, False
        for taken in actions_of(world, index):
            right = taken % 2 == number % 2
            earned, number = earned + right, number + 1 + taken
        assert (episode.length, episode.earned, episode.success) == (steps_of(seed), earned, right)
        assert episode.target_return == TARGETS[index]
    assert {episode.success for episode in episodes} == {True, False}, "the weights of this test tell both"
    assert len(world.taken) == max(steps_of(seed) for seed in SEEDS), "it ends with the last episode"


@pytest.mark.parametrize("temperature", [0.0, 20.0])
@pytest.mark.parametrize("specs", [SPECS, VECTORS], ids=["classes", "vectors"])
def test_an_episode_does_not_depend_on_those_beside_it(specs: dict[str, Spec], temperature: float) -> None:
    """Nor on when they end: together, alone, and among others in another order."""
    together, world, _ = rolled(specs=specs, temperature=temperature)
    order = [4, 2, 0]
    some, other, _ = rolled(
        [SEEDS[i] for i in order], [TARGETS[i] for i in order], specs=specs, temperature=temperature
    )
    for index, (seed, target) in enumerate(zip(SEEDS, TARGETS, strict=True)):
        (alone,), own, _ = rolled([seed], [target], specs=specs, temperature=temperature)
        assert alone == together[index]
        check_close(actions_of(own, 0), actions_of(world, index))
        if index in order:
            assert some[order.index(index)] == together[index]
            check_close(actions_of(other, order.index(index)), actions_of(world, index))


def test_what_is_drawn_follows_from_the_seed_of_the_episode() -> None:
    """The same again, whatever the global generator has been through; other than the best; and other seeds differ."""
    first, world, _ = rolled(temperature=20.0)
    torch.rand(7)
    again, other, _ = rolled(temperature=20.0)
    assert again == first
    assert [actions_of(other, i) for i in range(6)] == [actions_of(world, i) for i in range(6)]
    greedy = rolled()[1]
    assert [actions_of(greedy, i) for i in range(6)] != [actions_of(world, i) for i in range(6)]
    # 60 apart: the same world, other draws
    episodes, twice, _ = rolled([5, 65], [1.0, 1.0], temperature=20.0)
    assert steps_of(5) == steps_of(65) and actions_of(twice, 0) != actions_of(twice, 1)


def test_the_first_action_follows_from_the_first_observation_alone() -> None:
    """Two episodes of one world with another target differ through what is asked for."""
    asked = rolled([5, 5], [0.0, 40.0])[1]
    same = rolled([5, 5], [4.0, 4.0])[1]
    assert actions_of(same, 0) == actions_of(same, 1)
    assert actions_of(asked, 0) != actions_of(asked, 1)


def test_what_is_heard_is_the_window_up_to_now() -> None:
    """What is asked for, less what was earned; the reward of the step before; the states; actions before this step."""
    episodes, world, seen = rolled()
    replay = Counter()
    observation, _ = replay.reset(SEEDS)
    states, to_go, rewards = [torch.stack([o["state"]["values"] for o in observation])], [torch.tensor(TARGETS)], []
    rewards.append(torch.zeros(len(SEEDS)))
    for taken in world.taken:
        outcome = replay.step(taken)
        states.append(torch.stack([o["state"]["values"] for o in outcome.observation]))
        to_go.append(to_go[-1] - outcome.reward)
        rewards.append(outcome.reward)
    assert len(seen) == 7
    for step, batch in enumerate(seen):
        acting = [i for i, seed in enumerate(SEEDS) if steps_of(seed) > step]
        first = max(0, step + 1 - CONTEXT)
        count = step + 1 - first
        times = [list(range(first, step + 1))] * len(acting)
        assert len(batch) == len(acting), "who is over is not asked again"
        for name, values in (("return", to_go), ("reward", rewards), ("state", states)):
            expected = torch.stack(values[first : step + 1], 1)[acting]
            expected = expected / SCALE if name != "state" else expected
            torch.testing.assert_close(batch[name]["values"], expected.view(len(acting), count, -1))
            assert batch[name]["times"].tolist() == times
            assert batch.lengths[name].tolist() == [count] * len(acting) and batch.full[name]
        assert batch.lengths["action"].tolist() == [count - 1] * len(acting), "the current step has no action yet"
        if step:
            assert batch["action"]["class"].equal(torch.stack(world.taken[first:step], 1)[acting])
            assert batch["action"]["times"].tolist() == [own[:-1] for own in times], "with the times of their states"
            assert batch.full["action"]
        else:
            assert batch["action"]["class"].shape == batch["action"]["times"].shape == (6, 1), "one place of padding"
            assert not batch.full["action"]


@pytest.mark.parametrize("names", [ALL, ("return", "state", "action"), ("state", "action"), ("state",)])
@pytest.mark.parametrize("specs", [SPECS, VECTORS], ids=["classes", "vectors"])
def test_equals_a_loop_that_collates_every_window_anew(names: tuple[str, ...], specs: dict[str, Spec]) -> None:
    """One episode at a time, in plain steps, through the way that training data goes."""
    whole, objective = made(names, specs)
    targets = TARGETS if "return" in names else None
    episodes, together, _ = rolled(targets=targets, names=names, specs=specs)
    taken_specs = {name: specs[name] for name in names}
    for index, seed in enumerate(SEEDS):
        world, earned, rewards = Counter(continuous=specs is VECTORS), 0.0, [0.0]
        (seen,), (constants,) = world.reset([seed])
        states, to_go, taken = [], [], []
        for step in range(steps_of(seed)):
            states.append(seen["state"]["values"])
            to_go.append((TARGETS[index] - earned) / SCALE)
            first = max(0, step + 1 - CONTEXT)
            times = torch.arange(first, step + 1)
            sample = {
                **constants,
                "return": {"values": torch.tensor(to_go[first:])[:, None], "times": times},
                "reward": {"values": torch.tensor(rewards[first:])[:, None] / SCALE, "times": times},
                "state": {"values": torch.stack(states[first:]), "times": times},
            }
            if taken[first:]:
                sample["action"] = {objective.field: torch.stack(taken[first:]), "times": times[:-1]}
            with torch.no_grad():
                batch = collate([sample], taken_specs)
                out = objective.head(whole(batch).tokens("state")[0, -1])
            taken.append(out.argmax() if objective.is_discrete else out)
            outcome = world.step(taken[-1][None])
            (seen,), reward = outcome.observation, float(outcome.reward)
            earned += reward
            rewards.append(reward)
        expected = [each.tolist() for each in taken]
        check_close(actions_of(together, index), expected)
        assert episodes[index].earned == earned
        assert episodes[index].target_return == (TARGETS[index] if targets else None)


def test_what_holds_for_the_whole_episode_is_padded_as_collating_does() -> None:
    """To the longest of all episodes, also when that one is over."""
    _, _, seen = rolled()
    missions = [{"mission": {"ids": torch.arange(1 + seed % 4)}} for seed in SEEDS]
    expected = collate(missions, {"mission": SPECS["mission"]})
    for step, batch in enumerate(seen):
        acting = [i for i, seed in enumerate(SEEDS) if steps_of(seed) > step]
        assert batch["mission"]["ids"].equal(expected["mission"]["ids"][acting])
        assert batch.lengths["mission"].equal(expected.lengths["mission"][acting])
        assert batch.full["mission"] == (set(batch.lengths["mission"].tolist()) == {4})


def test_a_part_of_fixed_size_and_one_that_is_empty() -> None:
    specs = {"label": label_spec(5), "mission": SPECS["mission"]}
    empty, full = torch.zeros(0, dtype=torch.long), torch.arange(2)
    constants: list[Sample] = [{"label": {"class": torch.tensor(k)}, "mission": {"ids": empty}} for k in range(3)]
    batch = History(specs, ["label", "mission"], "action", constants).batch(torch.tensor([2, 0]))
    expected = collate([constants[2], constants[0]], specs)
    for name in specs:
        for key, values in expected[name].items():
            assert batch[name][key].equal(values), name
        assert batch.lengths[name].equal(expected.lengths[name]) and batch.full[name] == expected.full[name]
    constants[1]["mission"] = {"ids": full}
    history = History(specs, ["label", "mission"], "action", constants)
    assert history.batch(torch.tensor([0, 1]))["mission"]["ids"].tolist() == [[0, 0], [0, 1]]


LONG = {name: replace(spec, fields=_of_context(spec, MAX_STEPS)) for name, spec in SPECS.items() if name != "mission"}
LONG["mission"] = SPECS["mission"]


@pytest.mark.parametrize(
    "names",
    [ALL, ("return", "state", "action"), ("state", "action"), ("state", "mission", "action"), ("state",)],
    ids="-".join,
)
@pytest.mark.parametrize("specs", [SPECS, LONG], ids=["cropped", "whole"])
@pytest.mark.parametrize("scheme", ["learned", "rotary", "alibi"])
def test_the_cache_changes_nothing(names: tuple[str, ...], specs: dict[str, Spec], scheme: str) -> None:
    targets = TARGETS if "return" in names else None
    cached, world, _ = rolled(targets=targets, names=names, specs=specs, scheme=scheme)
    plain, other, _ = rolled(targets=targets, names=names, specs=specs, scheme=scheme, cache=False)
    assert cached == plain
    assert all(a.equal(b) for a, b in zip(world.taken, other.taken, strict=True))


def test_the_cache_spares_what_was_computed() -> None:
    """Every token is asked once, as long as none has left the window; not where a later name would be missed."""

    def asked(names: Sequence[str], specs: Mapping[str, Spec]) -> list[int]:
        whole, objective = made(names, specs)
        widths: list[int] = []
        whole.backbone.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
        targets = TARGETS if "return" in names else None
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=targets, return_scale=SCALE)
        return widths

    assert asked(("mission", "return", "state", "action"), LONG) == [4 + 2] + [3] * 6
    assert asked(("return", "state", "action"), SPECS) == [2, 3, 3, 8, 8, 8, 8]
    assert asked(("state", "action", "mission"), LONG)[1] == 4 + 3, "the mission comes after every step"
    assert asked(("state", "action", "reward"), LONG)[1] == 5, "a reward that was heard hears a later action"


def test_a_window_of_one_step_never_holds_an_action() -> None:
    specs = {
        name: spec if name == "mission" else replace(spec, fields=_of_context(spec, 1)) for name, spec in SPECS.items()
    }
    _, world, seen = rolled(specs=specs)
    assert len(seen) == 7
    for step, batch in enumerate(seen):
        assert batch["state"]["times"].tolist() == [[step]] * len(batch)
        assert not batch.lengths["action"].any() and batch.lengths["state"].unique().tolist() == [1]


def test_frames_are_kept_of_those_that_are_filmed_while_they_last() -> None:
    assert all(not episode.frames for episode in rolled()[0])
    episodes = rolled(num_filmed=2)[0]
    for index, episode in enumerate(episodes):
        shown = [SEEDS[index] + step / 100 for step in range(steps_of(SEEDS[index]) + 1)] if index < 2 else []
        assert [float(frame[0, 0, 0]) for frame in episode.frames] == pytest.approx(shown)
    assert sum(bool(episode.frames) for episode in rolled(num_filmed=100)[0]) == len(SEEDS)


def test_a_world_that_shows_less_than_the_set_holds() -> None:
    specs = {**SPECS, "sonar": SPECS["state"]}
    whole, objective = made(("state", "sonar", "action"), specs)
    with pytest.raises(UserError, match="the world shows no 'sonar', which is in the set; it shows state, mission"):
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=None, return_scale=SCALE)


def test_episodes_longer_than_the_times_that_the_data_declares() -> None:
    specs = {**SPECS, "state": series_spec(3, max_length=CONTEXT, num_times=MAX_STEPS - 1)}
    whole, objective = made(("state",), specs)
    with pytest.raises(UserError, match="last 7 steps; of 'state', the data declares times below 6"):
        roll_out(whole, objective, specs, Counter(), SEEDS, target_returns=None, return_scale=SCALE)


class Silent(Counter):
    """It neither says whether it was done nor draws itself."""

    def step(self, actions: Tensor) -> Outcome:
        return replace(super().step(actions), success=None)

    def frame(self, index: int) -> None:
        return None


def test_a_world_may_say_and_show_nothing() -> None:
    whole, objective = made()
    episodes = roll_out(
        whole, objective, SPECS, Silent(), SEEDS, target_returns=TARGETS, return_scale=SCALE, num_filmed=3
    )
    assert all(episode.success is None and not episode.frames for episode in episodes)
    assert "success_rate" not in play_metrics(Toy(), [episodes])


class Once(Counter):
    """A success is said in the step in which it happens, and no more after it."""

    def step(self, actions: Tensor) -> Outcome:
        outcome = super().step(actions)
        return replace(outcome, success=torch.full_like(outcome.over, self.time == 2))


def test_a_success_is_not_forgotten() -> None:
    whole, objective = made()
    episodes = roll_out(whole, objective, SPECS, Once(), SEEDS, target_returns=TARGETS, return_scale=SCALE)
    assert [episode.success for episode in episodes] == [True] * len(SEEDS)


# --- playing ----------------------------------------------------------------------------------------------------------


class Toy(Source, Playable):
    """Data of the counter; it remembers the worlds that it gave."""

    specs = SPECS
    best_return, return_scale = 6.0, SCALE

    def __init__(self, can_play: bool = True, reference: tuple[float, float] | None = None) -> None:
        self._can_play, self._reference = can_play, reference
        self.worlds: list[tuple[int, Counter]] = []

    def world(self, num_episodes: int) -> World:
        self.worlds.append((num_episodes, Counter()))
        return self.worlds[-1][1]

    @property
    def can_play(self) -> bool:
        return self._can_play

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        return self._reference

    def train(self) -> Samples:
        return Samples(0, lambda index: {})

    def val(self) -> None:
        return None

    def test(self) -> None:
        return None


class Recorded(Samples):
    """Data without a world."""


def made_learner(names: Sequence[str] = ALL, **changes: Any) -> Learner:
    whole, objective = made(names, val_episodes=5, test_episodes=7, **changes)
    return Learner(model=whole, objectives={"action": objective}, specs=SPECS).eval()


def test_in_validation_it_is_asked_for_the_first_return_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test for each of them, with the same seeds; worlds of a few episodes at once, closed in the end."""
    monkeypatch.setattr(policy_eval, "SIDE_BY_SIDE", 3)
    learner, source = made_learner(target_returns=[4.0, 0.0]), Toy()
    played = play(learner, source, "val", num_filmed=2)
    first = FIRST_SEED["val"]
    assert [[episode.target_return for episode in some] for some in played] == [[4.0] * 5]
    assert [(count, world.seeds) for count, world in source.worlds] == [
        (3, [first, first + 1, first + 2]),
        (2, [first + 3, first + 4]),
    ]
    assert [bool(episode.frames) for episode in played[0]] == [True, True, False, False, False]
    assert all(world.closed for _, world in source.worlds)
    source = Toy()
    played = play(learner, source, "test", num_filmed=1)
    assert [[episode.target_return for episode in some] for some in played] == [[4.0] * 7, [0.0] * 7]
    first = FIRST_SEED["test"]
    assert [world.seeds for _, world in source.worlds] == 2 * [
        [first, first + 1, first + 2],
        [first + 3, first + 4, first + 5],
        [first + 6],
    ]
    assert [sum(bool(episode.frames) for episode in some) for some in played] == [1, 0]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = made_learner(temperature=20.0)
    whole = play(learner, Toy(), "test")
    monkeypatch.setattr(policy_eval, "SIDE_BY_SIDE", 2)
    assert play(learner, Toy(), "test") == whole


def test_it_is_asked_for_the_best_of_the_data_or_for_nothing() -> None:
    assert {episode.target_return for episode in play(made_learner(), Toy(), "val")[0]} == {6.0}
    played = play(made_learner(["state", "action"], target_returns=[1.0, 2.0]), Toy(), "test")
    assert [[episode.target_return for episode in some] for some in played] == [[None] * 7]


def test_seeds_of_the_splits_are_apart_and_below_the_datas() -> None:
    most = 100_000_000
    assert 0 < FIRST_SEED["val"] < FIRST_SEED["val"] + most < FIRST_SEED["test"]
    assert FIRST_SEED["test"] + most < FIRST_DATA_SEED


def test_a_world_is_closed_though_something_fails() -> None:
    class Broken(Counter):
        def step(self, actions: Tensor) -> Outcome:
            raise RuntimeError("broken")

    class Fails(Toy):
        def world(self, num_episodes: int) -> World:
            self.worlds.append((num_episodes, Broken()))
            return self.worlds[-1][1]

    source = Fails()
    with pytest.raises(RuntimeError, match="broken"):
        play(made_learner(), source, "val")
    assert source.worlds[0][1].closed


def test_who_acts() -> None:
    learner = made_learner()
    assert acting_objective(learner, Toy()) is learner.objective("action")
    assert acting_objective(learner, Toy(can_play=False)) is None
    assert acting_objective(learner, Recorded(0, lambda index: {})) is None
    whole = learner.model
    specs = {**SPECS, "label": label_spec(3)}
    classify = Classify(
        specs=specs,
        model=whole,
        weight=1.0,
        label="label",
        pool=MeanPool(),
        pooler=False,
        label_smoothing=0.0,
        mixup=0.0,
        dropout=0.0,
    )
    other = Learner(model=whole, objectives={"classify": classify}, specs=specs)
    assert acting_objective(other, Toy()) is None
    both = Learner(model=whole, objectives={"classify": classify, "action": learner.objective("action")}, specs=specs)
    assert acting_objective(both, Toy()) is learner.objective("action")


def episodes_of(earned: list[float], target: float | None, success: list[bool | None] | None = None) -> list[Episode]:
    said = success or [None] * len(earned)
    return [Episode(target, value, 2 * i + 1, ok) for i, (value, ok) in enumerate(zip(earned, said, strict=True))]


def test_metrics_by_hand() -> None:
    first = episodes_of([1.0, 2.0, 6.0], 5.0, [True, False, True])
    metrics = play_metrics(Toy(reference=(1.0, 5.0)), [first, episodes_of([0.0, 1.0], 2.5), episodes_of([4.0], -10.0)])
    assert metrics == pytest.approx(
        {
            "return": 3.0,
            "return_sd": math.sqrt((4 + 1 + 9) / 2),
            "return_normalised": 50.0,
            "return_normalised_sd": 25 * math.sqrt((4 + 1 + 9) / 2),
            "episode_length": 3.0,
            "episode_length_sd": 2.0,
            "episodes": 3.0,
            "success_rate": 2 / 3,
            "success_rate_sd": math.sqrt(1 / 3),
            "return_asked_2.5": 0.5,
            "return_asked_-10": 4.0,
        }
    )
    assert all(isinstance(value, float) for value in metrics.values())


def test_metrics_of_one_episode_without_references() -> None:
    metrics = play_metrics(Toy(), [episodes_of([2.0], None)])
    assert set(metrics) == {"return", "return_sd", "episode_length", "episode_length_sd", "episodes"}
    assert math.isnan(metrics["return_sd"]) and metrics["return"] == 2.0


def test_metrics_of_acting_carry_the_name_of_the_stage() -> None:
    learner, source = made_learner(target_returns=[4.0, 0.0]), Toy()
    assert play(learner, source, "train") == [] == play(learner, Toy(can_play=False), "val")
    assert acting_metrics(source, "train", []) == {} and not source.worlds
    played = play(learner, source, "test")
    metrics = acting_metrics(source, "test", played)
    assert metrics == {f"test/{name}": value for name, value in play_metrics(source, played).items()}
    assert metrics["test/episodes"] == 7 and "test/return_asked_0" in metrics
    assert not any("asked" in name for name in play_metrics(source, play(learner, source, "val")))
