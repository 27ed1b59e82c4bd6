"""A learned baseline: what is still to be earned behind each id of a text, and by how much a roll-out does better."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.nn.init import initialise

LAMBDA = 0.95
"""How much of an advantage is handed on to the id before, as in PPO (Schulman et al. 2017, arXiv 1707.06347)."""

WEIGHT = 0.1
"""Of the squared error of values in the loss, as in TRL."""


class ValueBaseline(nn.Module):
    """A linear map of the hidden states from which ids are drawn, which learns their returns.

    Args:
        dim: of hidden states.
        init_std: of its weights.
    """

    roles = {"head.weight": "head", "head.bias": "bias"}

    def __init__(self, dim: int, init_std: float) -> None:
        super().__init__()
        self.head = nn.Linear(dim, 1)
        initialise(self.head, std=init_std)

    def forward(
        self, hidden: Float[Tensor, "N n D"], rewards: Float[Tensor, "N n"], written: Bool[Tensor, "N n"]
    ) -> tuple[Float[Tensor, "N n"], Float[Tensor, "N n"]]:
        """The advantage of each id, without gradients; and the loss of its value, with.

        Args:
            hidden: from which each id is drawn.
            rewards: that come with it.
            written: which ids were drawn, side by side.
        """
        values = self.head(hidden)[..., 0].float() * written
        gained = estimated_advantages(rewards, values.detach(), written)
        return gained, WEIGHT * (values - (gained + values.detach())).square() / 2


def estimated_advantages(
    rewards: Float[Tensor, "N n"], values: Float[Tensor, "N n"], written: Bool[Tensor, "N n"]
) -> Float[Tensor, "N n"]:
    """Generalised advantages (Schulman et al. 2016, arXiv 1506.02438, equation 16), without discounting, as texts end:
    the sum of λ^k δ_(t+k), with δ_t = r_t + V_(t+1) - V_t, and nothing behind the last id that was drawn."""
    ahead = torch.zeros_like(values[:, 0])
    value_ahead, found = ahead, []
    for column in reversed(range(values.shape[1])):
        own = written[:, column]
        ahead = (rewards[:, column] + value_ahead - values[:, column] + LAMBDA * ahead) * own
        value_ahead = values[:, column] * own
        found.append(ahead)
    return torch.stack(found[::-1], dim=1)


def at_the_end(rewards: Float[Tensor, " N"], written: Bool[Tensor, "N n"]) -> Float[Tensor, "N n"]:
    """The reward of each text with the last of its ids, and 0 with the others."""
    is_last = written & (written.flip(1).cumsum(1).flip(1) == 1)
    return rewards[:, None] * is_last
