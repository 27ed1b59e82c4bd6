"""Scores of roll-outs: which episodes are played, and the metrics of them."""

from __future__ import annotations

import math

import pytest
from builders import label_spec
from torch import Tensor
from toy_environment import SPECS, Counter, Toy, episodes_of, made_learner

from mmtx.acting import policy_eval
from mmtx.acting.policy_eval import (
    acting_objective,
    play,
    play_metrics,
    play_seeds,
    record,
    summed_up,
    target_returns,
)
from mmtx.data.base import Samples
from mmtx.data.episodes.episode_source import FIRST_DATA_SEED
from mmtx.environment import FIRST_SEED, Environment, Outcome
from mmtx.evaluate import act
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify
from mmtx.objectives.pooling import MeanPool


class Recorded(Samples):
    """Data without an environment."""


def test_validation_plays_the_first_target_return_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test for each of them, with the same seeds; environments of a few episodes at once, closed in the end."""
    monkeypatch.setattr(policy_eval, "SIDE_BY_SIDE", 3)
    learner, source = made_learner(target_returns=[4.0, 0.0]), Toy()
    played = play(learner, source, "val", num_filmed=2)
    first = FIRST_SEED["val"]
    assert [[episode.target_return for episode in some] for some in played] == [[4.0] * 5]
    assert [(count, environment.seeds) for count, environment in source.environments] == [
        (3, [first, first + 1, first + 2]),
        (2, [first + 3, first + 4]),
    ]
    assert [bool(episode.frames) for episode in played[0]] == [True, True, False, False, False]
    assert all(environment.closed for _, environment in source.environments)
    source = Toy()
    played = play(learner, source, "test", num_filmed=1)
    assert [[episode.target_return for episode in some] for some in played] == [[4.0] * 7, [0.0] * 7]
    first = FIRST_SEED["test"]
    assert [environment.seeds for _, environment in source.environments] == 2 * [
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


def test_the_default_target_return_is_the_best_of_the_data_or_none() -> None:
    assert {episode.target_return for episode in play(made_learner(), Toy(), "val")[0]} == {6.0}
    played = play(made_learner(["state", "action"], target_returns=[1.0, 2.0]), Toy(), "test")
    assert [[episode.target_return for episode in some] for some in played] == [[None] * 7]


def test_seeds_of_the_splits_are_apart_and_below_the_datas() -> None:
    most = 100_000_000
    assert 0 < FIRST_SEED["val"] < FIRST_SEED["val"] + most < FIRST_SEED["test"]
    assert FIRST_SEED["test"] + most < FIRST_DATA_SEED


def test_a_environment_is_closed_though_something_fails() -> None:
    class Broken(Counter):
        def step(self, actions: Tensor) -> Outcome:
            raise RuntimeError("broken")

    class Fails(Toy):
        def environment(self, num_episodes: int) -> Environment:
            self.environments.append((num_episodes, Broken()))
            return self.environments[-1][1]

    source = Fails()
    with pytest.raises(RuntimeError, match="broken"):
        play(made_learner(), source, "val")
    assert source.environments[0][1].closed


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
        class_weights=None,
        slices=[],
        dropout=0.0,
    )
    other = Learner(model=whole, objectives={"classify": classify}, specs=specs)
    assert acting_objective(other, Toy()) is None
    both = Learner(model=whole, objectives={"classify": classify, "action": learner.objective("action")}, specs=specs)
    assert acting_objective(both, Toy()) is learner.objective("action")


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
    assert act(learner, source, "train") == ({}, {"": []}) and not source.environments
    metrics, played = act(learner, source, "test")
    assert metrics == {f"test/{name}": value for name, value in play_metrics(source, played[""]).items()}
    assert metrics["test/episodes"] == 7 and "test/return_asked_0" in metrics
    assert not any("asked" in name for name in act(learner, source, "val")[0])


def test_targets_that_print_alike_keep_a_metric_each() -> None:
    targets = [5.0, 500.0, 1000000.1, 1000000.2, 1e6, 0.1 + 0.2, -2.5]
    metrics = play_metrics(Toy(), [episodes_of([float(i)], target) for i, target in enumerate(targets)])
    others = {name: value for name, value in metrics.items() if "asked" in name}
    names = ["500", "1000000.1", "1000000.2", "1e+06", "0.30000000000000004", "-2.5"]
    assert others == {f"return_asked_{name}": i + 1.0 for i, name in enumerate(names)}


def test_a_target_return_that_is_given_twice_is_played_once() -> None:
    learner, source = made_learner(target_returns=[4.0, 0.0, 4.0]), Toy()
    assert [some[0].target_return for some in play(learner, source, "test")] == [4.0, 0.0]


def test_references_that_coincide_normalise_nothing() -> None:
    metrics = summed_up(Toy(reference=(2.0, 2.0)), episodes_of([1.0, 2.0], None))
    assert "return_normalised" not in metrics and metrics["return"] == 1.5
    below = summed_up(Toy(reference=(0.0, -10.0)), episodes_of([-5.0, -10.0], None))
    assert below["return_normalised"] == 75.0 and below["return_normalised_sd"] == pytest.approx(50 / math.sqrt(2))


def test_only_episodes_whose_success_is_known_count_for_it() -> None:
    metrics = summed_up(Toy(), episodes_of([0.0, 0.0, 0.0], None, [True, None, False]))
    assert metrics["success_rate"] == 0.5 and metrics["success_rate_sd"] == pytest.approx(math.sqrt(0.5))
    assert metrics["episodes"] == 3
    single = summed_up(Toy(reference=(0.0, 1.0)), episodes_of([1.0], None, [True]))
    assert {name for name, value in single.items() if math.isnan(value)} == {
        f"{name}_sd" for name in ("return", "episode_length", "return_normalised", "success_rate")
    }


def test_an_episode_of_the_test_can_be_played_alone_by_its_seed() -> None:
    learner, source = made_learner(target_returns=[4.0], temperature=20.0), Toy()
    objective = learner.objective("action")
    assert target_returns(learner, objective, source) == [4.0]  # type: ignore[arg-type]
    (played,) = play(learner, source, "test")
    for index in (0, 5):
        alone = play_seeds(learner, objective, source, [FIRST_SEED["test"] + index], 4.0)  # type: ignore[arg-type]
        assert alone == [played[index]]
    assert record(played[5], 7) == {
        "seed": 7,
        "target_return": 4.0,
        "return": played[5].earned,
        "length": played[5].length,
        "success": played[5].success,
    }
