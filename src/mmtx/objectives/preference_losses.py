"""Losses of how much more the preferred text of a pair has gained than the other."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_fraction


class PreferenceLoss(nn.Module):
    """A loss for each pair.

    Args:
        beta: how strongly a policy is held to the reference: the larger, the less it moves.
    """

    def __init__(self, *, beta: float) -> None:
        super().__init__()
        if not beta > 0:
            raise InvalidValue("beta", beta, "must be above 0")
        self.beta = beta

    def forward(self, gain: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Args:
        gain: log π/π_ref of what is preferred, less that of the other.
        """
        raise NotImplementedError


class SigmoidPreference(PreferenceLoss):
    """−log σ(β·gain): direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    Args:
        beta: how strongly a policy is held to the reference.
        label_smoothing: share of pairs that may be the wrong way round (conservative DPO, Mitchell 2023).
    """

    def __init__(self, *, beta: float, label_smoothing: float) -> None:
        super().__init__(beta=beta)
        check_fraction("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, gain: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        wrong, scaled = self.label_smoothing, self.beta * gain
        return -(1 - wrong) * F.logsigmoid(scaled) - wrong * F.logsigmoid(-scaled)


class SquaredPreference(PreferenceLoss):
    """(gain − 1/2β)²: identity preference optimisation, whose gain stays finite where all agree on a pair (IPO: Azar et
    al. 2023, arXiv 2310.12036, equation 17)."""

    def forward(self, gain: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        return (gain - 1 / (2 * self.beta)).square()


class HingePreference(PreferenceLoss):
    """max(0, 1 − β·gain) (SLiC: Zhao et al. 2023, arXiv 2305.10425, normalised by the reference as by Liu et al. 2023,
    arXiv 2309.06657)."""

    def forward(self, gain: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        return F.relu(1 - self.beta * gain)
