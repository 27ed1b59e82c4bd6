"""Behaviour policies, from random to good, that make the data of `mmtx.data.episodes.rollouts`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy
from numpy.random import Generator

from mmtx.errors import InvalidValue, nearest

NOISE = (0.25, 0.75)
"""Shares of random actions between nearly always good and nearly always poor, for all three environments."""


class Controller(ABC):
    """Plays one environment well: a function of what is seen."""

    random_return: float
    """What random actions return, on average over 1,000 episodes."""
    own_return: float
    """What this controller returns, on average over 1,000 episodes."""

    @abstractmethod
    def action(self, seen: Any) -> int: ...


class BalancePole(Controller):
    """CartPole: pushes to where the pole falls, and leans towards the middle. Returns 500 from every start tried."""

    random_return, own_return = 22.6, 500.0

    def action(self, seen: Any) -> int:
        place, speed, angle, turning = seen
        return int(angle + 0.35 * turning + 0.05 * place + 0.1 * speed > 0)


class RockCar(Controller):
    """MountainCar: pushes to where it rolls, which adds energy at every step."""

    random_return, own_return = -200.0, -119.6

    def action(self, seen: Any) -> int:
        return 2 if seen[1] >= 0 else 0


class SwingUp(Controller):
    """Acrobot: bends against the turn of the first link, which adds energy at every step."""

    random_return, own_return = -498.6, -83.9

    def action(self, seen: Any) -> int:
        return 2 if seen[4] < 0 else 0


CONTROLLERS: dict[str, type[Controller]] = {
    "CartPole-v1": BalancePole,
    "MountainCar-v0": RockCar,
    "Acrobot-v1": SwingUp,
}
"""By the environment's id."""


class Policy(ABC):
    """Acts through one episode.

    Args:
        controller: of the environment, if there is one.
        space: of its actions.
        generator: of this episode.
    """

    needs_controller = False

    def __init__(self, controller: Controller | None, space: Any, generator: Generator) -> None:
        self.controller, self.space, self.generator = controller, space, generator

    @abstractmethod
    def action(self, seen: Any) -> Any:
        """As the environment's space of actions has it."""


class RandomPolicy(Policy):
    """Any action, uniformly; where numbers have no limits, from a normal distribution."""

    def __init__(self, controller: Controller | None, space: Any, generator: Generator) -> None:
        super().__init__(controller, space, generator)
        if not hasattr(space, "n"):
            space.seed(int(generator.integers(2**31)))

    def action(self, seen: Any) -> Any:
        if hasattr(self.space, "n"):
            return int(self.space.start) + int(self.generator.integers(int(self.space.n)))
        return self.space.sample()


class ExpertPolicy(Policy):
    """The controller."""

    needs_controller = True

    def action(self, seen: Any) -> Any:
        assert self.controller is not None
        return self.controller.action(seen)


class NoisyPolicy(Policy):
    """The controller, but for a share of random actions that is drawn for the episode, uniformly from `NOISE`."""

    needs_controller = True

    def __init__(self, controller: Controller | None, space: Any, generator: Generator) -> None:
        super().__init__(controller, space, generator)
        self.expert = ExpertPolicy(controller, space, generator)
        self.random = RandomPolicy(controller, space, generator)
        self.share = generator.uniform(*NOISE)

    def action(self, seen: Any) -> Any:
        policy = self.random if self.generator.random() < self.share else self.expert
        return policy.action(seen)


POLICIES: dict[str, type[Policy]] = {"random": RandomPolicy, "noisy": NoisyPolicy, "expert": ExpertPolicy}


class PolicyMixture:
    """Behaviour policies of one environment, of which every episode draws one.

    Args:
        env: the environment's id.
        policies: their names, and the share of episodes of each.

    Raises:
        InvalidValue: there is no such policy, or no share.
    """

    def __init__(self, env: str, policies: dict[str, float]) -> None:
        self.controller = CONTROLLERS[env]() if env in CONTROLLERS else None
        there = [name for name, policy in POLICIES.items() if self.controller or not policy.needs_controller]
        for name, share in policies.items():
            if name not in POLICIES:
                raise InvalidValue(f"policies.{name}", share, "is no behaviour policy", nearest(name, there))
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not (number and 0 <= share < float("inf")):
                raise InvalidValue(f"policies.{name}", share, "must be a share of the episodes, at least 0")
            if share and name not in there:
                known = f"there is a controller of {', '.join(CONTROLLERS)} only"
                raise InvalidValue(f"policies.{name}", share, f"cannot be had for env={env}: {known}", "0")
        self.names = [name for name, share in policies.items() if share]
        shares = numpy.array([policies[name] for name in self.names], dtype=float)
        if not self.names:
            raise InvalidValue("policies", policies, f"has no share above 0; there are {', '.join(there)}")
        self.shares = shares / shares.sum()

    def draw(self, space: Any, generator: Generator) -> Policy:
        """The policy of an episode."""
        name = self.names[int(generator.choice(len(self.names), p=self.shares))]
        return POLICIES[name](self.controller, space, generator)
