"""Episodes summed up, where something is unusual; what is usual is in test_act.py."""

from __future__ import annotations

import math

import pytest
from test_act import Toy, episodes_of, made_learner

from mmtx.acting.policy_eval import FIRST_SEED, play, play_metrics, play_seeds, record, summed_up, target_returns


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
