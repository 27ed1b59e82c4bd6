"""Roll-outs: a model that acts in a world, many episodes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.model import MultimodalTransformer
from mmtx.objectives.action import Action
from mmtx.world import Observation, World


@dataclass
class Episode:
    """What a model did, and what came of it.

    Attributes:
        target_return: what it was asked for; None where it was not asked.
        earned: sum of rewards.
        length: steps.
        success: as the world says; None where it does not.
        frames: of the episode, where they were asked for.
    """

    target_return: float | None
    earned: float = 0.0
    length: int = 0
    success: bool | None = None
    frames: list[Float[Tensor, "3 height width"]] = field(default_factory=list)


@torch.inference_mode()
def roll_out(
    model: MultimodalTransformer,
    objective: Action,
    specs: Mapping[str, Spec],
    world: World,
    seeds: Sequence[int],
    *,
    target_returns: Sequence[float] | None,
    return_scale: float,
    num_filmed: int = 0,
) -> list[Episode]:
    """One episode for each seed. An episode does not depend on those beside it.

    What is asked for is lowered by what is earned; a window of the last steps is heard, as long as the data's context.

    Args:
        model: in eval mode.
        objective: that chooses actions.
        specs: what the data declares.
        world: where it acts, of as many episodes.
        seeds: of the episodes.
        target_returns: what is asked for in each; None where the set holds no ``return``.
        return_scale: what returns and rewards are divided by.
        num_filmed: so many of the first episodes have their frames kept.
    """
    device = next(model.parameters()).device
    count = len(seeds)
    asked = list(target_returns) if target_returns is not None else [None] * count
    episodes = [Episode(target) for target in asked]
    observation, constants = world.reset(seeds)
    history = History(specs, model.names, objective.action)
    to_go = torch.tensor([0.0 if target is None else target for target in asked])
    reward = torch.zeros(count)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    alive = torch.ones(count, dtype=torch.bool)
    for _ in range(world.max_steps):
        for filmed in range(min(num_filmed, count)):
            frame = world.frame(filmed) if alive[filmed] else None
            episodes[filmed].frames += [] if frame is None else [frame]
        history.see(observation, to_go / return_scale, reward / return_scale)
        acting = alive.nonzero()[:, 0]
        batch = history.batch(acting, constants).to(device)
        chosen = objective.act(model(batch), history.num_steps, [generators[i] for i in acting.tolist()]).cpu()
        actions = chosen.new_zeros(count, *chosen.shape[1:])
        actions[alive] = chosen
        history.act(actions)
        outcome = world.step(actions)
        reward = outcome.reward
        for index in acting.tolist():
            episodes[index].earned += float(reward[index])
            episodes[index].length += 1
            if outcome.success is not None:
                episodes[index].success = bool(outcome.success[index]) or bool(episodes[index].success)
        to_go, observation = to_go - reward, outcome.observation
        alive = alive & ~outcome.over
        if not alive.any():
            break
    return episodes


class History:
    """The last steps of all episodes, as the model hears them: observations and returns up to now, actions before.

    Args:
        specs: what the data declares.
        names: of the set.
        action: name of the actions.
    """

    def __init__(self, specs: Mapping[str, Spec], names: Sequence[str], action: str) -> None:
        self._specs, self._action = specs, action
        self._names = [name for name in names if name in specs]
        self._steps: dict[str, list[dict[str, Tensor]]] = {name: [] for name in self._names if self._is_timed(name)}
        spans = [specs[name].max_length for name in self._steps]
        self._context = min(spans) if spans else 1
        self._seen = 0

    @property
    def num_steps(self) -> int:
        """Steps that are heard now."""
        return min(self._seen, self._context)

    def see(self, observation: Observation, to_go: Float[Tensor, " n"], reward: Float[Tensor, " n"]) -> None:
        """A new step begins."""
        self._seen += 1
        given = {"return": {"values": to_go[:, None]}, "reward": {"values": reward[:, None]}}
        for name, steps in self._steps.items():
            if name == self._action:
                continue
            if name in observation[0]:
                fields = {key: torch.stack([one[name][key] for one in observation]) for key in observation[0][name]}
            else:
                fields = given[name]
            steps.append(fields)

    def act(self, actions: Tensor) -> None:
        """The step ends with an action in every episode."""
        if self._action in self._steps:
            key = next(key for key in ("class", "values") if key in self._specs[self._action].fields)
            self._steps[self._action].append({key: actions})

    def batch(self, index: Tensor, constants: Sequence[Sample]) -> Batch:
        """The window that some episodes hear."""
        fields: dict[str, dict[str, Tensor]] = {}
        lengths: dict[str, Tensor] = {}
        full: dict[str, bool] = {}
        for name in self._names:
            if name in self._steps:
                window = self._steps[name][-(self.num_steps - (name == self._action)) or len(self._steps[name]) :]
                fields[name] = self._stacked(name, window, index)
                lengths[name], full[name] = torch.full((len(index),), len(window)), len(window) > 0
            else:
                given = [constants[i][name] for i in index.tolist()]
                fields[name], lengths[name], full[name] = _padded(given, self._specs[name])
        return Batch(fields, lengths, full, index)

    def _is_timed(self, name: str) -> bool:
        return "times" in self._specs[name].fields

    def _stacked(self, name: str, window: list[dict[str, Tensor]], index: Tensor) -> dict[str, Tensor]:
        spec, first = self._specs[name], self._seen - self.num_steps
        if not window:  # no action yet: one place of padding
            return {
                key: torch.zeros(len(index), 1, *[size or 0 for size in f.shape[1:]], dtype=f.dtype)
                for key, f in spec.fields.items()
            }
        stacked = {key: torch.stack([step[key][index] for step in window], dim=1) for key in window[0]}
        times = torch.arange(first, first + len(window)).expand(len(index), -1)
        return {**stacked, "times": times}


def _padded(given: Sequence[Mapping[str, Tensor]], spec: Spec) -> tuple[dict[str, Tensor], Tensor, bool]:
    """Parts of unequal length side by side, padded at the end as collating does."""
    ragged = any(f.ragged for f in spec.fields.values())
    counts = [len(next(iter(part.values()))) if ragged else 1 for part in given]
    longest = max(*counts, 1)
    fields = {}
    for key, f in spec.fields.items():
        shape = (longest, *f.shape[1:]) if f.ragged else f.shape
        out = torch.zeros(len(given), *[size or 0 for size in shape], dtype=f.dtype)
        for row, part in enumerate(given):
            out[(row, slice(len(part[key]))) if f.ragged else row] = part[key]
        fields[key] = out
    return fields, torch.tensor(counts), min(counts) == longest
