"""Loss by size and tokens, L(N, D) = E + A / N^alpha + B / D^beta, fitted to runs: the third approach of Hoffmann et
al. 2022 (arXiv 2203.15556), by the Huber loss of the difference of logarithms, from several starts."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "points"]

HUBER = 1e-3
"""Where squared differences of logarithms become absolute ones, as in that paper."""

STARTS = tuple(product((0.3, 0.6, 0.9), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0)))
"""The share of the least loss that E is, alpha and beta."""

NUM_RESAMPLES = 100
LEVEL = 0.95
NUM_CONSTANTS = 5


@dataclass(frozen=True)
class Law:
    """The constants of a law.

    Attributes:
        E: the loss of an endless model after endless tokens.
        A: of what a model of finite size adds.
        B: of what a finite number of tokens adds.
        alpha: the power of sizes.
        beta: the power of tokens.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, sizes: Values, tokens: Values) -> Values:
        return self.E + self.A / sizes**self.alpha + self.B / tokens**self.beta

    @property
    def size_exponent(self) -> float:
        """The power of compute that the best size grows with, where compute is a multiple of size times tokens."""
        return self.beta / (self.alpha + self.beta)


@dataclass(frozen=True)
class Fit:
    """A law and how well it is known.

    Attributes:
        law: of the least Huber loss.
        resampled: laws of as many further sets of losses: what the law gives, with residuals drawn anew.
    """

    law: Law
    resampled: tuple[Law, ...]

    def interval(self, value: Callable[[Law], float]) -> tuple[float, float]:
        """The middle 95% of a value over the resampled laws."""
        tail = (1 - LEVEL) / 2
        low, high = np.quantile([value(law) for law in self.resampled], [tail, 1 - tail])
        return float(low), float(high)


def fit(sizes: Values, tokens: Values, losses: Values, seed: int = 0) -> Fit:
    """The law of some runs, with a bootstrap of its residuals.

    Residuals (of logarithms) are divided by the root of the share of degrees of freedom that five constants leave, as a
    fit makes them too small. Points are not drawn anew: a grid of sizes and tokens without some of its corners would
    leave constants open that the whole grid determines.

    Args:
        sizes: parameters of each run.
        tokens: that each was trained on.
        losses: above 0.
        seed: of the bootstrap.
    """
    best = _best(sizes, tokens, losses, STARTS)
    expected = best.loss(sizes, tokens)
    residuals = np.log(losses / expected)
    residuals *= np.sqrt(len(losses) / (len(losses) - NUM_CONSTANTS))
    generator = np.random.default_rng(seed)
    start = [(best.E / losses.min(), best.alpha, best.beta)]
    again = (expected * np.exp(generator.choice(residuals, len(losses))) for _ in range(NUM_RESAMPLES))
    return Fit(best, tuple(_best(sizes, tokens, each, start) for each in again))


def _best(sizes: Values, tokens: Values, losses: Values, starts: Sequence[tuple[float, float, float]]) -> Law:
    """The law of the least Huber loss that is found from any start."""
    from scipy.optimize import minimize

    logs, targets = np.stack([np.zeros_like(sizes), np.log(sizes), np.log(tokens)]), np.log(losses)
    middle = logs.mean(1, keepdims=True)  # A and B are those of the middle here, where they depend little on the powers
    logs = logs - middle

    def huber_and_slopes(x: Float[np.ndarray, "5"]) -> tuple[float, Float[np.ndarray, "5"]]:
        terms = x[:3, None] - np.array([0.0, x[3], x[4]])[:, None] * logs
        expected = np.logaddexp.reduce(terms, axis=0)
        error = (expected - targets) / HUBER
        slope = np.clip(error, -1, 1)
        shares = np.exp(terms - expected)
        slopes = np.concatenate([shares @ slope, -(shares * logs)[1:] @ slope])
        return float(slope @ (error - slope / 2)), slopes / HUBER

    bounds = [(None, None)] * 3 + [(0.0, None)] * 2
    found = []
    for share, alpha, beta in starts:
        share = min(max(share, 1e-6), 1 - 1e-6)
        rest = np.log(losses.min() * (1 - share) / 2)
        x = np.array([np.log(losses.min() * share), rest, rest, alpha, beta])
        options = {"ftol": 1e-13, "gtol": 1e-6, "maxiter": 3000, "maxfun": 6000, "maxcor": 20}
        found.append(minimize(huber_and_slopes, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options))
    x = min(found, key=lambda result: result.fun).x
    powers = np.array([0.0, x[3], x[4]])
    return Law(*np.exp(x[:3] + powers * middle[:, 0]).tolist(), *x[3:].tolist())


def constants(law: Law) -> dict[str, float]:
    """The constants by their names."""
    return dict(zip(("E", "A", "B", "alpha", "beta"), astuple(law), strict=True))
