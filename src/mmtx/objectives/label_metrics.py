"""Metrics of several labels at once, from the scores of a whole split."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precision(scores: Float[Tensor, " n"], truth: Bool[Tensor, " n"]) -> float:
    """The precision at each distinct score, weighted by what it adds to the recall, without interpolation, as
    scikit-learn has it; NaN where nothing is true."""
    ordered, order = scores.sort(descending=True)
    last = torch.ones_like(truth)  # of those of equal score, which are told apart by nothing
    last[:-1] = ordered[1:] != ordered[:-1]
    found = truth[order].double().cumsum(0)[last]
    precision = found / (last.nonzero()[:, 0] + 1)
    return float((precision * found.diff(prepend=found.new_zeros(1))).sum() / found[-1])


def mean_average_precision(scores: Float[Tensor, "n classes"], truth: Bool[Tensor, "n classes"]) -> float:
    """The mean over the classes that occur (macro)."""
    each = [average_precision(own, true) for own, true in zip(scores.T, truth.T, strict=True)]
    return float(torch.tensor(each, dtype=torch.double).nanmean())


def f1_scores(predicted: Bool[Tensor, "n classes"], truth: Bool[Tensor, "n classes"]) -> dict[str, float]:
    """``f1_micro``, of all labels together, and ``f1_macro``, the mean over the classes that are predicted or true; NaN
    where none is. As scikit-learn has it with ``zero_division=nan``."""
    right = 2 * (predicted & truth).sum(0).double()
    both = predicted.sum(0) + truth.sum(0)
    return {"f1_micro": float(right.sum() / both.sum()), "f1_macro": float((right / both).nanmean())}
