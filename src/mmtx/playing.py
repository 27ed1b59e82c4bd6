"""How well a model acts: roll-outs in the world of its data, summed up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from mmtx.act import Episode, roll_out
from mmtx.learner import Learner
from mmtx.objectives.action import Action
from mmtx.world import Playable

SIDE_BY_SIDE = 128
"""Episodes that are stepped together."""
FIRST_SEED = {"val": 1_000_000_000, "test": 1_500_000_000}
"""Of the episodes of a split: none that a dataset begins its own with."""


def acting_objective(learner: Learner, source: object) -> Action | None:
    """The objective that acts, if there is one and the data has a world to act in."""
    acts = next((objective for objective in learner.objectives.values() if isinstance(objective, Action)), None)
    return acts if isinstance(source, Playable) and source.can_play and acts is not None else None


def play(learner: Learner, source: Playable, split: str, *, num_filmed: int = 0) -> list[list[Episode]]:
    """Episodes for each return that is asked for (in validation, the first); one list where none is.

    Args:
        learner: in eval mode, with an objective that acts.
        source: the data, whose world it acts in.
        split: ``val`` or ``test``: which seeds, and how many of them.
        num_filmed: so many episodes of the first list keep their frames.
    """
    objective = acting_objective(learner, source)
    assert objective is not None
    count, first = objective.num_episodes[split], FIRST_SEED[split]
    asks = "return" in learner.model.names
    targets: Sequence[float | None] = (objective.target_returns or [source.best_return]) if asks else [None]
    targets = targets[:1] if split == "val" else targets
    return [
        [
            episode
            for start in range(0, count, SIDE_BY_SIDE)
            for episode in _some(
                learner,
                objective,
                source,
                list(range(first + start, first + min(start + SIDE_BY_SIDE, count))),
                target,
                num_filmed if start == 0 and index == 0 else 0,
            )
        ]
        for index, target in enumerate(targets)
    ]


def _some(
    learner: Learner, objective: Action, source: Playable, seeds: list[int], target: float | None, num_filmed: int
) -> list[Episode]:
    world = source.world(len(seeds))
    try:
        return roll_out(
            learner.model,
            objective,
            learner.specs,
            world,
            seeds,
            target_returns=None if target is None else [target] * len(seeds),
            return_scale=source.return_scale,
            num_filmed=num_filmed,
        )
    finally:
        world.close()


def play_metrics(source: Playable, played: Sequence[Sequence[Episode]]) -> dict[str, float]:
    """``return``, ``return_normalised``, ``success_rate`` and ``episode_length`` with standard deviations and count.

    They are those of the first return that was asked for; of each other one, ``return_asked_<target>``.
    """
    episodes, others = played[0], played[1:]
    returns, lengths = [e.earned for e in episodes], [float(e.length) for e in episodes]
    metrics = {
        "return": statistics.fmean(returns),
        "return_sd": _sd(returns),
        "episode_length": statistics.fmean(lengths),
        "episode_length_sd": _sd(lengths),
        "episodes": float(len(episodes)),
    }
    if source.reference_returns is not None:
        low, high = source.reference_returns
        metrics["return_normalised"] = 100 * (metrics["return"] - low) / (high - low)
    known = [float(e.success) for e in episodes if e.success is not None]
    if known:
        metrics["success_rate"] = statistics.fmean(known)
    for some in others:
        assert some[0].target_return is not None
        metrics[f"return_asked_{some[0].target_return:g}"] = statistics.fmean(e.earned for e in some)
    return metrics


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan
