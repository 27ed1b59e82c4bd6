"""A toy environment whose number every action changes, data with that environment, and models that act in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from builders import POSITIONS, action, backbone, model, series, series_spec, text, text_spec
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import Samples, Source
from mmtx.decoding.rollouts import Episode, roll_out
from mmtx.environment import Environment, Observation, Outcome, Playable
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned
from mmtx.objectives.action import Action
from mmtx.tokens import Clock

CONTEXT, MAX_STEPS, SCALE = 3, 7, 2.0


def steps_of(seed: int) -> int:
    return 2 + seed % 6


class Counter(Environment):
    """A number that every action is added to, and one more; whoever names its parity earns 1. Over after a number of
    steps that depends on the seed; a success if the last action earned something."""

    def __init__(self, continuous: bool = False) -> None:
        self.continuous, self.closed, self.taken = continuous, False, []

    @property
    def max_steps(self) -> int:
        return MAX_STEPS

    def reset(self, seeds: Sequence[int]) -> tuple[Observation, list[Sample]]:
        self.seeds, self.time, self.taken = list(seeds), 0, []
        self.number = torch.tensor([seed % 3 for seed in seeds])
        return self._see(), [{"mission": {"ids": torch.arange(1 + seed % 4)}} for seed in seeds]

    def step(self, actions: Tensor) -> Outcome:
        self.taken.append(actions)
        chosen = (actions[:, 0] > 0).long() if self.continuous else actions
        right = chosen % 2 == self.number % 2
        self.time += 1
        over = torch.tensor([self.time >= steps_of(seed) for seed in self.seeds])
        self.number = self.number + 1 + chosen
        return Outcome(self._see(), right.float(), over, right & over)

    def frame(self, index: int) -> Tensor:
        return torch.full((3, 2, 2), self.seeds[index] + self.time / 100)

    def close(self) -> None:
        self.closed = True

    def _see(self) -> Observation:
        return [
            {"state": {"values": torch.tensor([n / 5, n % 2 - 0.5, seed % 5 - 2.0])}}
            for n, seed in zip(self.number.tolist(), self.seeds, strict=True)
        ]


SPECS: dict[str, Spec] = {
    "mission": text_spec(max_length=4),
    "return": series_spec(1, max_length=CONTEXT, num_times=MAX_STEPS),
    "reward": series_spec(1, max_length=CONTEXT, num_times=MAX_STEPS),
    "state": series_spec(3, max_length=CONTEXT, num_times=MAX_STEPS),
    "action": series_spec(num_classes=4, max_length=CONTEXT, num_times=MAX_STEPS),
}
VECTORS = {**SPECS, "action": series_spec(2, max_length=CONTEXT, num_times=MAX_STEPS)}


def with_length(spec: Spec, context: int) -> dict[str, Any]:
    return {key: replace(field, max_length=context) for key, field in spec.fields.items()}


ALL = ("mission", "return", "reward", "state", "action")
SEEDS = [3, 0, 11, 4, 1, 8]
"""Episodes of 5, 2, 7, 6, 3 and 4 steps; missions of 4, 1, 4, 1, 2 and 1 words."""
TARGETS = [5.0, 1.0, 3.0, -2.0, 0.0, 7.0]


def made(
    names: Sequence[str] = ALL,
    specs: Mapping[str, Spec] = SPECS,
    scheme: str = "learned",
    stack: Mapping[str, Any] | None = None,
    **changes: Any,
) -> tuple[MultimodalTransformer, Action]:
    """Weights so large that observations decide actions."""
    torch.manual_seed(0)
    tokenizers = {name: text(specs[name]) if name == "mission" else series(specs[name]) for name in names}
    body = backbone(positions=POSITIONS[scheme], init_std=0.6, **(stack or {}))
    whole = model(tokenizers, body, clocks={"step": Clock(embedding=Learned)})
    return whole, action(whole, specs, **changes)


def rolled(
    seeds: Sequence[int] = SEEDS,
    targets: Sequence[float] | None = TARGETS,
    *,
    names: Sequence[str] = ALL,
    specs: Mapping[str, Spec] = SPECS,
    num_filmed: int = 0,
    cache: bool = True,
    **changes: Any,
) -> tuple[list[Episode], Counter, list[Batch]]:
    """Episodes, the environment they took place in, and the batches that the model got."""
    whole, objective = made(names, specs, **changes)
    environment, seen = Counter(continuous=specs is VECTORS), []
    tokenize = whole.tokenize
    whole.tokenize = lambda batch: (seen.append(batch), tokenize(batch))[1]  # type: ignore[method-assign]
    episodes = roll_out(
        whole,
        objective,
        specs,
        environment,
        seeds,
        target_returns=targets,
        return_scale=SCALE,
        num_filmed=num_filmed,
        cache=cache,
    )
    return episodes, environment, seen


def actions_of(environment: Counter, index: int) -> list[Any]:
    """Of one episode, while it lasted."""
    return [taken[index].tolist() for taken in environment.taken[: steps_of(environment.seeds[index])]]


class Toy(Source, Playable):
    """Data of the counter; it remembers the environments that it gave."""

    specs = SPECS
    best_return, return_scale = 6.0, SCALE

    def __init__(self, can_play: bool = True, reference: tuple[float, float] | None = None) -> None:
        self._can_play, self._reference = can_play, reference
        self.environments: list[tuple[int, Counter]] = []

    def environment(self, num_episodes: int) -> Environment:
        self.environments.append((num_episodes, Counter()))
        return self.environments[-1][1]

    @property
    def can_play(self) -> bool:
        return self._can_play

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        return self._reference

    def train(self) -> Samples:
        return Samples(0, lambda index: {})

    def val(self) -> None:
        return None

    def test(self) -> None:
        return None


def made_learner(names: Sequence[str] = ALL, **changes: Any) -> Learner:
    whole, objective = made(names, val_episodes=5, test_episodes=7, **changes)
    return Learner(model=whole, objectives={"action": objective}, specs=SPECS).eval()


def episodes_of(earned: list[float], target: float | None, success: list[bool | None] | None = None) -> list[Episode]:
    known = success or [None] * len(earned)
    return [Episode(target, value, 2 * i + 1, ok) for i, (value, ok) in enumerate(zip(earned, known, strict=True))]
