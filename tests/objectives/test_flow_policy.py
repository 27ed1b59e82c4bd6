"""Actions by a flow: an episode depends on its own seed alone, and is of those that the data has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import backbone, model, series, series_spec
from contracts import check_objective

from mmtx.batch import fake_batch
from mmtx.data.episodes.obstacle import Obstacle
from mmtx.decoding.rollouts import roll_out
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.flow_policy import FlowPolicy

DATA = {"num_points": 8, "num_episodes": 40, "val_fraction": 0.1, "split_seed": 0}


def policy(specs: Any, **changes: Any) -> tuple[MultimodalTransformer, FlowPolicy]:
    whole = model({name: series(specs[name]) for name in ("state", "action")}, backbone())
    keys: dict[str, Any] = {"weight": 1.0, "action": "action", "times": "uniform", "num_steps": 2}
    keys |= {"val_episodes": 2, "test_episodes": 3}
    objective = FlowPolicy(specs=specs, model=whole, **{**keys, **changes}).eval()
    with torch.no_grad():
        objective.head("action").projection.weight.normal_(std=0.2)
    return whole, objective


@pytest.mark.slow
def test_contract() -> None:
    specs = {name: Obstacle(**DATA).specs[name] for name in ("state", "action")}
    whole, objective = policy(specs)
    check_objective(objective, whole, specs)


def test_an_episode_depends_on_its_own_seed_alone() -> None:
    source = Obstacle(**DATA)
    whole, objective = policy(source.specs)
    taken: dict[tuple[int, ...], Any] = {}
    for seeds in ([3, 4], [4], [3, 9, 4]):
        environment = source.environment(len(seeds))
        step = environment.step

        def kept(actions: torch.Tensor, seeds: Any = seeds, step: Any = step) -> Any:
            taken[tuple(seeds)] = actions
            return step(actions)

        environment.step = kept  # type: ignore[method-assign]
        played = roll_out(whole, objective, source.specs, environment, seeds, target_returns=None, return_scale=1.0)
        assert [episode.length for episode in played] == [1] * len(seeds)
        assert all(episode.success is not None for episode in played)
    assert taken[3, 4].shape == (2, 8) and not taken[3, 4][0].equal(taken[3, 4][1])
    torch.testing.assert_close(taken[3, 4][1], taken[4,][0])
    torch.testing.assert_close(taken[3, 9, 4][[0, 2]], taken[3, 4])


def test_actions_are_in_the_units_of_the_data() -> None:
    """A flow that stands still gives noise, moved and stretched as the data are."""
    source = Obstacle(**DATA)
    whole, objective = policy(source.specs)
    torch.nn.init.zeros_(objective.head("action").projection.weight)
    actions = source.episodes.actions.double()
    scale = objective.head("action").scale
    assert scale is not None
    scale.fit([actions])
    batch = fake_batch({name: source.specs[name] for name in ("state", "action")}, 1)
    planned = objective.plan(whole, batch, [torch.Generator().manual_seed(3)])
    noise = torch.randn(8, generator=torch.Generator().manual_seed(3)).double()
    expected = actions.mean(0) + actions.std(0, correction=0) * noise
    torch.testing.assert_close(planned[0].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"val_episodes": 0}, "val_episodes=0 must be at least 1"),
        ({"action": "mood"}, "action=mood names no part of the data"),
    ],
)
def test_values_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy(Obstacle(**DATA).specs, **changes)


def test_windows_have_one_step() -> None:
    specs = {"state": series_spec(), "action": series_spec(2)}
    with pytest.raises(InvalidValue, match="action=action has windows of 5 steps in the data"):
        policy(specs)
