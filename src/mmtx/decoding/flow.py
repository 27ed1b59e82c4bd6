"""Sampling from a flow, and how probable it makes data: its velocity integrated from noise to data, or back.

Time goes from 0, where all is noise, to 1, where all is data. Axes: B samples, K numbers of a sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.errors import check_at_least
from mmtx.process.stopping import track

Velocity = Callable[[Float[Tensor, "B K"], Float[Tensor, " B"]], Float[Tensor, "B K"]]
"""From numbers and the time of each sample to their change with time; a sample's depends on its own numbers alone."""

Solver = Literal["euler", "heun"]


@dataclass(frozen=True)
class Integration:
    """How a flow is integrated.

    Args:
        num_steps: of equal length, from noise to data
        solver: euler computes the velocity once a step, heun twice, and has an error that falls with the square of the
            number of steps
    """

    num_steps: int = 25
    solver: Solver = "heun"

    def __post_init__(self) -> None:
        check_at_least("num_steps", self.num_steps, 1)


USUAL = Integration()


@torch.no_grad()
def integrate(velocity: Velocity, noise: Float[Tensor, "B K"], how: Integration) -> Float[Tensor, "B K"]:
    """The numbers that noise becomes."""
    return _solved(velocity, noise, (0.0, 1.0), how)


def log_likelihood(
    velocity: Velocity, data: Float[Tensor, "B K"], real: Bool[Tensor, "B K"], how: Integration
) -> Float[Tensor, " B"]:
    """The logarithm of the density that a flow gives to data, in nats: that of the noise which becomes them, less the
    integral of the divergence of the velocity (Chen et al. 2018, arXiv 1806.07366). The divergence is exact: it takes
    as many backward passes as there are numbers.

    Args:
        velocity: zero where there is no number.
        data: numbers of each sample.
        real: which numbers there are.
        how: it is integrated; its error is that of the solver.
    """

    def with_divergence(state: Float[Tensor, "B K1"], time: Float[Tensor, " B"]) -> Float[Tensor, "B K1"]:
        with torch.enable_grad():
            numbers = state[:, :-1].detach().requires_grad_()
            found = velocity(numbers, time)
            divergence = _divergence(found, numbers)
        return torch.cat([found.detach(), divergence[:, None]], dim=1)

    state = torch.cat([data, torch.zeros_like(data[:, :1])], dim=1)
    with torch.no_grad():
        begun = _solved(with_divergence, state, (1.0, 0.0), how)
    noise, gained = begun[:, :-1], begun[:, -1]
    of_noise = torch.distributions.Normal(0.0, 1.0).log_prob(noise).masked_fill(~real, 0.0).sum(1)
    return of_noise + gained  # back in time the integral has the other sign


def _divergence(found: Float[Tensor, "B K"], numbers: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    total = torch.zeros_like(found[:, 0]).detach()
    for index in range(found.shape[1]):
        total += torch.autograd.grad(found[:, index].sum(), numbers, retain_graph=True)[0][:, index]
    return total


def _solved(
    change: Velocity, state: Float[Tensor, "B K"], interval: tuple[float, float], how: Integration
) -> Float[Tensor, "B K"]:
    """The state at the end of an interval of time, from that at its begin."""
    begin, end = interval
    step = (end - begin) / how.num_steps
    for index in track(range(how.num_steps), "integrating a flow, step"):
        now, then = (torch.full_like(state[:, 0], begin + step * (index + i)) for i in range(2))
        slope = change(state, now)
        if how.solver == "heun":
            slope = (slope + change(state + step * slope, then)) / 2
        state = state + step * slope
    return state
