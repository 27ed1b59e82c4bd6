"""Width scaling: the rate that is best for a narrow model is best for a wide one (muP: Yang et al. 2022, arXiv
2203.03466, table 8).

With m, the width over that of the base, what multiplies features of the model learns at 1/m of the rate, the scores of
ids by a tied embedding are divided by m, and those of attention by the width of heads instead of its root. Everything
else stays. A head begins at 1/m and learns at 1/m, where the paper divides its outputs and lets its weights be: under
Adam, whose steps know no scale of gradients, the two are the same.
"""

import math

import torch
from torch import nn

from mmtx.errors import check_at_least
from mmtx.nn.roles import known_roles


def width_ratio(dim: int, base_width: int | None) -> float:
    """The width over that of the base; 1 where there is none.

    Raises:
        InvalidValue: the base has no width.
    """
    check_at_least("base_width", base_width, 1)
    return 1.0 if base_width is None else dim / base_width


def width_ratio_of(module: nn.Module) -> float:
    """The same of a model, as its stack declares it in the attribute `width_ratio`."""
    declared = (getattr(child, "width_ratio", None) for child in module.modules())
    return next((ratio for ratio in declared if isinstance(ratio, float)), 1.0)


@torch.no_grad()
def shrink_heads(module: nn.Module) -> None:
    """Divides the initial weights of heads by the root of m, in place: their spread, by the root of the fan-in, becomes
    one by the fan-in itself, so that predictions move as far at every width when all features learn alike."""
    ratio, roles = width_ratio_of(module), known_roles(module)
    for name, parameter in module.named_parameters() if ratio != 1 else ():
        if roles.get(name) == "head":
            parameter.div_(math.sqrt(ratio))
