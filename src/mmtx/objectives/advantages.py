"""By how much each roll-out of a group is better than the others; and how the ids of a roll-out share in the loss."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

Method = Literal["grpo", "dr_grpo", "dapo", "rloo", "ppo"]
"""``grpo``: deviations from the mean of the group in its standard deviations, and means over the ids of each roll-out
(Shao et al. 2024, arXiv 2402.03300). ``dr_grpo``: deviations as they are, and sums over ids, divided by the longest
that a roll-out may be (Liu et al. 2025, arXiv 2503.20783). ``dapo``: as grpo, with a mean over the ids of all roll-outs
(Yu et al. 2025, arXiv 2503.14476). ``rloo``: deviations from the mean of the others, one ratio for a whole text, whose
gradient is that of the sum over its ids, and the distance from the reference as a part of the reward (Ahmadian et al.
2024, arXiv 2402.14740). ``ppo``: a learned baseline in the place of the group, the distance of each id as a part of its
reward, and a mean over the ids of all roll-outs (`mmtx.objectives.value_baseline`)."""

EPSILON = 1e-4
"""Added to a standard deviation, as in TRL."""


def advantages(rewards: Float[Tensor, "B G"], method: Method) -> Float[Tensor, "B G"]:
    """Of each roll-out, those of one prompt side by side; all 0 where they have one reward. Not of ``ppo``."""
    deviation = rewards - rewards.mean(1, keepdim=True)
    if method == "dr_grpo":
        return deviation
    if method == "rloo":  # r - mean of the others
        count = rewards.shape[1]
        return deviation * count / (count - 1)
    return deviation / (rewards.std(1, keepdim=True) + EPSILON)


def shares(written: Bool[Tensor, "N n"], method: Method, longest: int) -> Float[Tensor, "N n"]:
    """What the loss of each id is multiplied by, before sums are divided by `predictions`; of ``rloo`` each has that of
    the whole text."""
    share = written.float()
    if method in ("grpo", "rloo"):
        return share / share.sum(1, keepdim=True).clamp(min=1)
    return share / longest if method == "dr_grpo" else share


def predictions(written: Bool[Tensor, "N n"], method: Method) -> Num[Tensor, ""]:
    """What sums are divided by: all ids, or all roll-outs."""
    return written.sum() if method in ("dapo", "ppo") else written.any(1).sum()


def distance(own: Float[Tensor, "N n"], reference: Float[Tensor, "N n"]) -> Float[Tensor, "N n"]:
    """An estimate of KL(π ‖ π_ref) of each id that π has drawn, never negative: e^d - d - 1 with d = log π_ref/π
    (Schulman 2020)."""
    difference = reference - own
    return torch.expm1(difference) - difference
