"""Flows of Gaussian data, whose velocity, samples and densities are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmtx.decoding.flow import Integration, Solver, integrate, log_likelihood
from mmtx.errors import InvalidValue

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)
DEVIATION = torch.tensor([0.3, 1.0, 2.5], dtype=torch.double)


def optimal(x: Tensor, time: Tensor) -> Tensor:
    """The mean of data - noise given x, of independent Gaussian data, by the regression of one on the other."""
    t = time[:, None]
    variance = (1 - t) ** 2 + (t * DEVIATION) ** 2
    return MEAN + (t * DEVIATION**2 - (1 - t)) / variance * (x - t * MEAN)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_noise_becomes_the_data_with_an_error_of_the_solvers_order(solver: Solver, order: int) -> None:
    """The flow keeps quantiles, so that noise z ends at mean + deviation · z."""
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    exact = MEAN + DEVIATION * noise
    errors = [
        float((integrate(optimal, noise, Integration(n, solver)) - exact).square().mean().sqrt()) for n in (100, 200)
    ]
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_a_straight_flow_needs_one_step() -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    for solver in ("euler", "heun"):
        moved = integrate(lambda x, t: torch.full_like(x, 2.0), start, Integration(1, solver))
        torch.testing.assert_close(moved, start + 2.0)


def test_likelihoods_are_those_of_the_gaussian() -> None:
    data = MEAN + DEVIATION * torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    real = torch.ones_like(data, dtype=torch.bool)
    found = log_likelihood(optimal, data, real, Integration(150))
    torch.testing.assert_close(
        found, torch.distributions.Normal(MEAN, DEVIATION).log_prob(data).sum(1), atol=5e-3, rtol=0
    )


def test_numbers_that_are_not_there_have_no_density() -> None:
    real = torch.tensor([[True, True, False]]).expand(20, -1)
    noise = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    data = (MEAN + DEVIATION * noise) * real
    found = log_likelihood(lambda x, t: optimal(x, t) * real, data, real, Integration(150))
    of_real = torch.distributions.Normal(MEAN, DEVIATION).log_prob(data)[:, :2].sum(1)
    torch.testing.assert_close(found, of_real, atol=5e-3, rtol=0)


def test_there_is_at_least_one_step() -> None:
    with pytest.raises(InvalidValue, match="num_steps=0 must be at least 1"):
        Integration(0)
