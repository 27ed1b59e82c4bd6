"""The loss of what a policy has drawn, ids of texts or actions of episodes, from the rewards that it got."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Num
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.metric_directions import Directions
from mmtx.objectives.advantages import Method, advantages, distance, predictions, shares
from mmtx.objectives.value_baseline import ValueBaseline

DIRECTIONS: Directions = {"kl": None, "length": None, "silent": None}
"""Of `statistics`."""


class Drawn(NamedTuple):
    """Of every roll-out: the log-probability of each choice, now and, where there is a reference, at the start; which
    were drawn, from what, and the reward that came with each. Of all, with those of one sample side by side, the sum of
    rewards."""

    own: Float[Tensor, "N n"]
    reference: Float[Tensor, "N n"] | None
    written: Bool[Tensor, "N n"]
    hidden: Float[Tensor, "N n D"]
    earned: Float[Tensor, "N n"]
    rewards: Float[Tensor, "B G"]


@dataclass(frozen=True)
class PolicyLoss:
    """What is minimised. Each roll-out is used once, by the policy that drew it: ratios are 1, with the gradient of the
    log-probability.

    Args:
        method: how rewards become advantages, and how choices are averaged.
        beta: weight of the distance from the reference, in nats; 0: it is only watched.
        longest: choices that a roll-out may have.
    """

    method: Method
    beta: float
    longest: int

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise InvalidValue("beta", self.beta, "must be at least 0")

    def __call__(self, drawn: Drawn, value: ValueBaseline | None) -> Float[Tensor, ""]:
        """The sum, to be divided by `count`.

        Args:
            drawn: what was drawn.
            value: the baseline of ``ppo``.
        """
        return (self._of_each(drawn, value) * shares(drawn.written, self.method, self.longest)).sum()

    def count(self, written: Bool[Tensor, "N n"]) -> Num[Tensor, ""]:
        return predictions(written, self.method)

    def _of_each(self, drawn: Drawn, value: ValueBaseline | None) -> Float[Tensor, "N n"]:
        before = drawn.own.detach() if drawn.reference is None else drawn.reference
        log_ratio, away = drawn.own - drawn.own.detach(), self.beta * (drawn.own - before).detach()
        if value is not None:
            gained, loss_of_values = value(drawn.hidden, drawn.earned - away, drawn.written)
            return loss_of_values - log_ratio.exp() * gained
        if self.method == "rloo":
            rewards = drawn.rewards - away.sum(1).view_as(drawn.rewards)
            ratio = log_ratio.sum(1, keepdim=True).exp()
            return -(ratio * advantages(rewards, self.method).flatten()[:, None]).expand_as(log_ratio)
        loss = -log_ratio.exp() * advantages(drawn.rewards, self.method).flatten()[:, None]
        return loss + self.beta * distance(drawn.own, before)


def statistics(drawn: Drawn, present: Bool[Tensor, " B"]) -> dict[str, tuple[Tensor, Tensor]]:
    """Sums and counts: ``length`` of a roll-out; ``silent``, the share of samples whose roll-outs all have one reward,
    from which nothing is learnt; and where there is a reference, ``kl`` to it, in nats of a roll-out.

    Args:
        drawn: what was drawn.
        present: which samples have roll-outs.
    """
    rollouts = drawn.written.any(1).sum()
    silent = (drawn.rewards == drawn.rewards[:, :1]).all(1) & present
    sums = {"length": (drawn.written.sum(), rollouts), "silent": (silent.sum(), present.sum())}
    if drawn.reference is None:
        return sums
    return sums | {"kl": (distance(drawn.own, drawn.reference).detach().sum(), rollouts)}
