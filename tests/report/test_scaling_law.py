"""The law of loss by size and tokens: constants that losses were made from, and scipy's fit by another method."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from mmtx.report.scaling_law import HUBER, Law, constants, fit

PUBLISHED = Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024 (arXiv 2404.10102), from the 240 points of Hoffmann et al."""

SMALL = Law(E=1.0, A=30.0, B=200.0, alpha=0.5, beta=0.45)


def grid(sizes, tokens, count):
    return [axis.ravel() for axis in np.meshgrid(np.geomspace(*sizes, count), np.geomspace(*tokens, count))]


def noisy(law, sizes, tokens, spread, seed=0):
    return law.loss(sizes, tokens) * np.exp(np.random.default_rng(seed).normal(0, spread, len(sizes)))


def test_the_published_constants_come_back():
    sizes, tokens = grid((4e7, 1.6e10), (1e9, 5e11), 8)
    found = fit(sizes, tokens, noisy(PUBLISHED, sizes, tokens, 3e-4))
    for name, value in constants(PUBLISHED).items():
        low, high = found.interval(lambda law, name=name: constants(law)[name])
        assert constants(found.law)[name] == pytest.approx(value, rel=0.05), name
        assert low < value < high and high - low < 0.12 * value, (name, low, high)
    low, high = found.interval(lambda law: law.size_exponent)
    assert low < 0.3658 / (0.3478 + 0.3658) < high


def test_small_runs_with_outliers_are_fitted_as_by_another_method():
    """The same Huber loss by trust regions in Hoffmann's own parameters, without our slopes and starts."""
    sizes, tokens = grid((6e3, 4e5), (6e4, 5e5), 4)
    losses = noisy(SMALL, sizes, tokens, 2e-3, seed=1)
    losses[5] *= 1.2  # a run that went wrong

    def residuals(x):
        e, a, b, alpha, beta = x
        return np.log(np.exp(e) + np.exp(a) / sizes**alpha + np.exp(b) / tokens**beta) - np.log(losses)

    def objective(law):
        x = np.array([np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta])
        z = (residuals(x) / HUBER) ** 2
        return np.where(z <= 1, z, 2 * np.sqrt(z) - 1).sum()

    start = [np.log(1.2), np.log(50.0), np.log(100.0), 0.4, 0.4]
    options = {"loss": "huber", "f_scale": HUBER, "x_scale": "jac", "ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    other = least_squares(residuals, start, max_nfev=5000, **options).x
    other = Law(*np.exp(other[:3]), *other[3:])
    found = fit(sizes, tokens, losses)
    assert objective(found.law) <= objective(other) * (1 + 1e-6)
    assert constants(found.law) == pytest.approx(constants(other), rel=2e-2)
    assert constants(found.law) == pytest.approx(constants(SMALL), rel=0.3)


@pytest.mark.slow
def test_the_interval_covers_as_often_as_it_claims_to():
    """Of 12 sweeps with other noise, the true E is outside of at most three intervals: with 95% each, that fails once
    in 4,000 times."""
    sizes, tokens = grid((6e3, 4e5), (6e4, 5e5), 5)
    fits = [fit(sizes, tokens, noisy(SMALL, sizes, tokens, 3e-3, seed)) for seed in range(12)]
    assert sum(low <= SMALL.E <= high for low, high in (found.interval(lambda law: law.E) for found in fits)) >= 9
