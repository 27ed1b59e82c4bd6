"""A T-maze with a sign: demonstrations replayed, and what each action does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts import check_learns, check_source

from mmtx.data.episodes.t_maze import BEGIN_NOTE, END_NOTE, FORWARD, LEFT, RIGHT, TMaze
from mmtx.errors import UserError


def t_maze(**changed: Any) -> TMaze:
    keys = {"cells": [3, 6], "acted_cells": 5, "num_episodes": 60, "context": 4, "return_scale": 1.0}
    return TMaze(**{**keys, "val_fraction": 0.1, "split_seed": 0, **changed})


def observed(source: TMaze, observation: Any) -> list[list[float]]:
    """Not standardised."""
    values = torch.stack([one["state"]["values"] for one in observation])
    return (values * source.standardise.std + source.standardise.mean).round(decimals=4).abs().tolist()


def test_contract() -> None:
    check_source(t_maze())
    check_learns(t_maze, lambda: t_maze(num_episodes=30), splits=())


def test_demonstrations_see_the_sign_once_note_it_and_turn_its_way() -> None:
    episodes, turns, signs = t_maze().episodes, set(), set()
    for start, stop in zip(episodes.offsets, episodes.offsets[1:], strict=False):
        states, actions = episodes.observations[start:stop], episodes.actions[start:stop].tolist()
        seen = states[:, :2].any(1).nonzero()[:, 0].tolist()
        assert seen == [seen[0], seen[0] + 1, seen[0] + 2], "while it notes it, and then goes on"
        assert [actions[i] for i in seen[:2]] == [BEGIN_NOTE, END_NOTE]
        assert actions.count(FORWARD) == len(actions) - 3 and 3 <= actions.count(FORWARD) <= 6
        assert states[:, 2].tolist() == [0.0] * (len(actions) - 1) + [1.0], "the fork comes last"
        assert actions[-1] == (LEFT if states[seen[0], 0] else RIGHT)
        assert episodes.rewards[start:stop].tolist() == [0.0] * (len(actions) - 1) + [1.0]
        turns.add(actions[-1])
        signs.add((seen[0], actions.count(FORWARD)))
    assert turns == {LEFT, RIGHT} and {sign for sign, cells in signs if cells == 6} >= {0, 5}, "anywhere"


def test_only_the_way_of_the_sign_succeeds_and_only_at_the_fork() -> None:
    source = t_maze()
    environment = source.environment(4)
    observation, _ = environment.reset([0, 0, 1, 1])
    sides = [[0.0, 0.0]] * 4
    for step in range(5):
        shown = observed(source, observation)
        sides = [state[:2] if any(state[:2]) else side for state, side in zip(shown, sides, strict=True)]
        assert not any(state[2] for state in shown)
        if not step:
            outcome = environment.step(torch.tensor([LEFT, RIGHT, BEGIN_NOTE, END_NOTE]))
            assert observed(source, outcome.observation) == shown and not outcome.over.any(), "nothing moves"
        observation = environment.step(torch.full((4,), FORWARD)).observation
    assert [state[2] for state in observed(source, observation)] == [1.0] * 4
    right = [LEFT if left else RIGHT for left, _ in sides]
    wrong = LEFT + RIGHT - right[1]
    outcome = environment.step(torch.tensor([right[0], wrong, FORWARD, right[3]]))
    assert outcome.reward.tolist() == [1.0, 0.0, 0.0, 1.0] and outcome.over.tolist() == [True, True, False, True]
    outcome = environment.step(torch.tensor([right[0], right[1], FORWARD, right[3]]))
    assert outcome.reward.tolist() == [0.0] * 4 and outcome.over.all(), "its time is over"
    assert outcome.success is not None and outcome.success.tolist() == [True, False, False, True]
    assert environment.max_steps == 8 and environment.frame(0) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cells": [0, 3]}, r"cells=\[0, 3\] must be the fewest and the most, of at least 1; nearest: \[3,13\]"),
        ({"cells": [4, 3]}, r"cells=\[4, 3\] must be"),
        ({"cells": [3]}, r"cells=\[3\] must be"),
        ({"acted_cells": 0}, "acted_cells=0 must be at least 1"),
        ({"context": 10}, "context=10 must lie in 1..9"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        t_maze(**changes)
