"""Metrics of predicted numbers, from sums over the whole split."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor


def number_sums(
    scaled: Float[Tensor, "B steps size"], true: Float[Tensor, "B steps size"], real: Bool[Tensor, "B steps"]
) -> dict[str, tuple[Float[Tensor, "B size"], Num[Tensor, " B"]]]:
    """Of each sample, the sums that `number_metrics` needs, in float64, and how many steps they are of.

    Args:
        scaled: predicted, standardised, so that no sum of squares is much larger than what is taken off it.
        true: likewise.
        real: which steps there are.
    """
    error, count = scaled.detach().double() - true, real.sum(1)
    each = {"absolute": error.abs(), "squared": error.square(), "true": true, "true_squared": true.square()}
    return {name: (torch.where(real[..., None], value, 0.0).sum(1), count) for name, value in each.items()}


def number_metrics(
    stats: Mapping[str, tuple[Float[Tensor, " size"], Num[Tensor, ""]]], deviation: Float[Tensor, " size"]
) -> dict[str, float]:
    """``mae``, ``rmse`` and ``r2`` as scikit-learn has them: of each number by itself, then averaged over those of a
    vector. Where the truth never varies, ``r2`` is 1 if all is exact, and 0 if not.

    Args:
        stats: summed over what they are of.
        deviation: of each number, by which it was standardised.
    """
    count, own = stats["squared"][1], deviation.to(stats["squared"][1].device)
    absolute, squared, true, true_squared = (stats[key][0] for key in ("absolute", "squared", "true", "true_squared"))
    spread = true_squared - true.square() / count
    varies = spread > 1e-12 * true_squared  # beyond rounding
    r2 = 1 - torch.where(varies, squared / torch.where(varies, spread, 1.0), (squared > 0).double())
    means = {"mae": absolute / count * own, "rmse": (squared / count).sqrt() * own, "r2": r2}
    return {name: float(value.mean()) if count else float("nan") for name, value in means.items()}
