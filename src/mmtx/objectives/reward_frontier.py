"""Reward against distance from the reference, beside the best that there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POINTS = 99
"""Of a line that is drawn."""


@dataclass(frozen=True)
class Reached:
    """What a policy has of one reward.

    Attributes:
        name: of the reward.
        before: what the reference has, a mean.
        now: what the policy has, a mean.
        is_share: each text has 0 or 1.
    """

    name: str
    before: float
    now: float
    is_share: bool


def least_distance(share: float, before: float) -> float:
    """The least KL(π ‖ π_ref) in nats of a policy that has a reward of 1, not of 0, with probability `share`, where the
    reference has it with probability `before`: KL(Bern(share) ‖ Bern(before)), which the reference tilted by the reward
    has. Infinite where the reference never has what the policy has."""
    terms = ((share, before), (1 - share, 1 - before))
    if any(own > 0 and other <= 0 for own, other in terms):
        return math.inf
    return sum(own * math.log(own / other) for own, other in terms if own > 0)


def draw_frontier(distance: float, rewards: Sequence[Reached], path: Path) -> None:
    """A point for what the policy has of each reward at this distance from the reference, and one for the reference; a
    line for the best that there is, where a reward is a share that has risen.

    Args:
        distance: KL of the policy to the reference, in nats of a text.
        rewards: of both.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for number, reward in enumerate(rewards):
        color = f"C{number}"
        axes.plot([0, distance], [reward.before, reward.now], "o", color=color, label=reward.name)
        if reward.is_share and 0 < reward.before < reward.now:
            shares = [reward.before + (1 - reward.before) * i / POINTS for i in range(POINTS)]
            axes.plot([least_distance(each, reward.before) for each in shares], shares, color=color, linewidth=0.8)
    axes.set_xlabel("distance from the start, nats of a text")
    axes.set_ylabel("reward")
    axes.legend()
    figure.savefig(path, dpi=110)
