"""Whether a setting differs from the best one by more than seeds make."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mmtx.report.comparison import SEED, Comparison, Setting

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """How far a setting is from the best one.

    Attributes:
        rank: of the setting.
        mean: its mean score minus that of the best.
        half_width: of the 95% interval around `mean`, by Student's t; None where one of the two has a single run.
        num_pairs: seeds that both have, if these are all; their differences are compared then. None: Welch's interval
            of two independent means (Welch 1947).
    """

    rank: int
    mean: float
    half_width: float | None
    num_pairs: int | None

    @property
    def verdict(self) -> str:
        if self.half_width is None:
            return "not known: it takes two seeds of each"
        return "more than seeds make" if abs(self.mean) > self.half_width else "may be the seeds"


def differences(comparison: Comparison) -> list[Difference]:
    """Of every setting but the best, in their order."""
    best, *others = comparison.settings or (None,)
    return [_difference(best, other, rank) for rank, other in enumerate(others, 2) if best is not None]


def _difference(best: Setting, other: Setting, rank: int) -> Difference:
    mean = other.mean - best.mean
    ours, theirs = _by_seed(best), _by_seed(other)
    if ours and ours.keys() == theirs.keys():
        pairs = [theirs[seed] - ours[seed] for seed in ours]
        return Difference(rank, mean, _half_width(_squared_error(pairs), len(pairs) - 1.0), len(pairs))
    if best.sd is None or other.sd is None:
        return Difference(rank, mean, None, None)
    errors = [_squared_error(setting.scores) for setting in (best, other)]
    spread = sum(error**2 / (len(each.scores) - 1) for error, each in zip(errors, (best, other), strict=True))
    freedom = sum(errors) ** 2 / spread if spread else 1.0
    return Difference(rank, mean, _half_width(sum(errors), freedom), None)


def _by_seed(setting: Setting) -> dict[str, float]:
    """The score of each seed; nothing unless each has one run, and there are two."""
    seeds = [str(run.config.get(SEED)) for run in setting.runs]
    return dict(zip(seeds, setting.scores, strict=True)) if len(set(seeds)) == len(seeds) > 1 else {}


def _squared_error(values: Sequence[float]) -> float:
    """The square of the standard error of their mean."""
    return statistics.variance(values) / len(values)


def _half_width(squared_error: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(squared_error)
