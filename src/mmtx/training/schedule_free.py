"""AdamW without a schedule (Defazio et al. 2024, The Road Less Scheduled, arXiv 2405.15682)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmtx.errors import InvalidValue, UserError

try:
    from schedulefree import AdamWScheduleFree
except ImportError:
    raise UserError("optim=schedule_free needs schedulefree: pip install 'mmtx[schedule_free]'") from None


class ScheduleFree(AdamWScheduleFree):
    """Steps the point at which gradients are computed, ``y = (1 - beta) z + beta x``, and ``z`` in its state. What is
    evaluated and saved is ``x``, the average of ``z`` (section 2). It stays in the mode for training: the weights are
    exchanged with the average from outside, so that they come back bit for bit.

    Args:
        params: groups.
        lr: learning rate.
        betas: share of the average in `y`, and of the second moment.
        eps: added to the root of the second moment.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, *, betas: Sequence[float], eps: float) -> None:
        if len(betas) != 2 or not (0 < betas[0] < 1 and 0 <= betas[1] < 1):
            raise InvalidValue("rest.betas", list(betas), "must be two numbers in [0, 1), the first above 0")
        super().__init__(params, lr=lr, betas=(betas[0], betas[1]), eps=eps)
        self.train()

    def averaged(self, parameter: nn.Parameter) -> Tensor:
        """``x = y + (1 - 1 / beta) (z - y)``; the parameter itself before its first step."""
        z = self.state[parameter].get("z") if parameter in self.state else None
        return parameter.detach() if z is None else torch.lerp(parameter.detach(), z, 1 - 1 / self.defaults["betas"][0])
