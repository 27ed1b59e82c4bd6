"""Behaviour policies, from random to good, that generate the data of `mmtx.data.episodes.rollouts`."""

from abc import ABC, abstractmethod
from typing import Any

import numpy
from numpy.random import Generator

from mmtx.errors import InvalidValue, nearest

NOISE = (0.25, 0.75)
"""Range of the share of random actions: from nearly always good to nearly always poor in all three environments."""


class Controller(ABC):
    """Acts well in one environment, as a function of the observation."""

    random_return: float
    """Mean return of random actions over 1,000 episodes."""
    own_return: float
    """Mean return of this controller over 1,000 episodes."""

    @abstractmethod
    def action(self, observation: Any) -> int: ...


class BalancePole(Controller):
    """CartPole: pushes towards the side that the pole falls to, and to the middle. Returns 500 from every start
    tried."""

    random_return, own_return = 22.6, 500.0

    def action(self, observation: Any) -> int:
        position, velocity, angle, angular_velocity = observation
        return int(angle + 0.35 * angular_velocity + 0.05 * position + 0.1 * velocity > 0)


class RockCar(Controller):
    """MountainCar: pushes in the direction of its motion, which adds energy at every step."""

    random_return, own_return = -200.0, -119.6

    def action(self, observation: Any) -> int:
        return 2 if observation[1] >= 0 else 0


class SwingUp(Controller):
    """Acrobot: turns against the first link, which adds energy at every step."""

    random_return, own_return = -498.6, -83.9

    def action(self, observation: Any) -> int:
        return 2 if observation[4] < 0 else 0


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
    def action(self, observation: Any) -> Any:
        """An action of the environment's action space."""


class RandomPolicy(Policy):
    """Uniform over all actions; normal where continuous actions are unbounded."""

    def __init__(self, controller: Controller | None, space: Any, generator: Generator) -> None:
        super().__init__(controller, space, generator)
        if not hasattr(space, "n"):
            space.seed(int(generator.integers(2**31)))

    def action(self, observation: Any) -> Any:
        if hasattr(self.space, "n"):
            return int(self.space.start) + int(self.generator.integers(int(self.space.n)))
        return self.space.sample()


class ExpertPolicy(Policy):
    """The controller."""

    needs_controller = True

    def action(self, observation: Any) -> Any:
        assert self.controller is not None
        return self.controller.action(observation)


class NoisyPolicy(Policy):
    """The controller with a share of random actions, which is drawn for each episode uniformly from `NOISE`."""

    needs_controller = True

    def __init__(self, controller: Controller | None, space: Any, generator: Generator) -> None:
        super().__init__(controller, space, generator)
        self.expert = ExpertPolicy(controller, space, generator)
        self.random = RandomPolicy(controller, space, generator)
        self.share = generator.uniform(*NOISE)

    def action(self, observation: Any) -> Any:
        policy = self.random if self.generator.random() < self.share else self.expert
        return policy.action(observation)


POLICIES: dict[str, type[Policy]] = {"random": RandomPolicy, "noisy": NoisyPolicy, "expert": ExpertPolicy}


class PolicyMixture:
    """Behaviour policies of one environment, of which every episode draws one.

    Args:
        env: the environment's id.
        policies: share of episodes of each, by name.

    Raises:
        InvalidValue: there is no such policy, or no share.
    """

    def __init__(self, env: str, policies: dict[str, float]) -> None:
        self.controller = CONTROLLERS[env]() if env in CONTROLLERS else None
        available = [name for name, policy in POLICIES.items() if self.controller or not policy.needs_controller]
        for name, share in policies.items():
            if name not in POLICIES:
                raise InvalidValue(f"policies.{name}", share, "is no behaviour policy", nearest(name, available))
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not (number and 0 <= share < float("inf")):
                raise InvalidValue(f"policies.{name}", share, "must be a share of the episodes, at least 0")
            if share and name not in available:
                limit = f"there is a controller of {', '.join(CONTROLLERS)} only"
                raise InvalidValue(f"policies.{name}", share, f"cannot be had for env={env}: {limit}", "0")
        self.names = [name for name, share in policies.items() if share]
        shares = numpy.array([policies[name] for name in self.names], dtype=float)
        if not self.names:
            raise InvalidValue("policies", policies, f"has no share above 0; there are {', '.join(available)}")
        self.shares = shares / shares.sum()

    def draw(self, space: Any, generator: Generator) -> Policy:
        """The policy of an episode."""
        name = self.names[int(generator.choice(len(self.names), p=self.shares))]
        return POLICIES[name](self.controller, space, generator)
