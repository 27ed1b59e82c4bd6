"""Roll-outs: a model that acts in a world, many episodes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec
from mmtx.errors import UserError
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import LayerCache
from mmtx.process.stopping import track
from mmtx.tokens import HiddenStates, Span, TokenSet
from mmtx.world import Observation, World


@runtime_checkable
class Actor(Protocol):
    """An objective that chooses actions.

    Attributes:
        action: the name of actions in the set.
        read: the name from whose tokens it chooses.
    """

    action: str
    read: str

    def act(
        self, states: HiddenStates, num_steps: int, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]: ...


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
    objective: Actor,
    specs: Mapping[str, Spec],
    world: World,
    seeds: Sequence[int],
    *,
    target_returns: Sequence[float] | None,
    return_scale: float,
    num_filmed: int = 0,
    cache: bool = True,
) -> list[Episode]:
    """One episode for each seed. An episode does not depend on those beside it.

    What is asked for is lowered by what is earned; a window of the last steps is heard, as long as the data's context.

    Args:
        model: in eval mode.
        objective: that chooses actions.
        specs: what the data declares; names of the set that are not there are not heard.
        world: where it acts, of as many episodes.
        seeds: of the episodes.
        target_returns: what is asked for in each; None where the set holds no ``return``.
        return_scale: what returns and rewards are divided by.
        num_filmed: so many of the first episodes have their frames kept.
        cache: keep keys and values of earlier steps where that is exact, see `Listener`.
    """
    device = next(model.parameters()).device
    count = len(seeds)
    asked = list(target_returns) if target_returns is not None else [None] * count
    episodes = [Episode(target) for target in asked]
    observation, constants = world.reset(seeds)
    names = [name for name in model.names if name in specs]
    _check_world(world, specs, names, objective.action, {**observation[0], **constants[0]})
    history = History(specs, names, objective.action, constants)
    listener = Listener(model, objective, names, history.timed, cache=cache)
    to_go = torch.tensor([0.0 if target is None else target for target in asked])
    reward = torch.zeros(count)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    acting = torch.arange(count)
    _film(world, episodes, acting, num_filmed)
    for _ in track(range(world.max_steps), "acting, step"):
        history.see(observation, to_go / return_scale, reward / return_scale)
        states, num_steps = listener.hear(history, acting, device)
        chosen = objective.act(states, num_steps, [generators[i] for i in acting.tolist()]).cpu()
        actions = chosen.new_zeros(count, *chosen.shape[1:])
        actions[acting] = chosen
        history.act(actions)
        outcome = world.step(actions)
        reward = outcome.reward
        for index in acting.tolist():
            episodes[index].earned += float(reward[index])
            episodes[index].length += 1
            if outcome.success is not None:
                episodes[index].success = bool(outcome.success[index]) or bool(episodes[index].success)
        _film(world, episodes, acting, num_filmed)
        to_go, observation = to_go - reward, outcome.observation
        acting = acting[~outcome.over[acting]]
        if not len(acting):
            break
    return episodes


def _check_world(
    world: World, specs: Mapping[str, Spec], names: Sequence[str], action: str, shown: Mapping[str, object]
) -> None:
    """Raises UserError if the model would hear what the world does not show, or times that it has no embedding for."""
    for name in names:
        if name not in (*shown, "return", "reward", action):
            raise UserError(f"the world shows no '{name}', which is in the set; it shows {', '.join(shown)}")
        times = specs[name].fields.get("times")
        if times is not None and times.num_classes is not None and world.max_steps > times.num_classes:
            limit = f"the data declares times below {times.num_classes}: lengthen data.max_steps"
            raise UserError(f"episodes of the world last {world.max_steps} steps; of '{name}', {limit}")


def _film(world: World, episodes: Sequence[Episode], acting: Int[Tensor, " b"], num_filmed: int) -> None:
    for index in acting[acting < num_filmed].tolist():
        frame = world.frame(index)
        episodes[index].frames += [] if frame is None else [frame]


class History:
    """The last steps of all episodes, as the model hears them: observations and returns up to now, actions before.

    Args:
        specs: what the data declares.
        names: of the set.
        action: name of the actions.
        constants: what holds for the whole of each episode.
    """

    def __init__(
        self, specs: Mapping[str, Spec], names: Sequence[str], action: str, constants: Sequence[Sample]
    ) -> None:
        self._specs, self._action, self._count = specs, action, len(constants)
        self.timed = [name for name in names if "times" in specs[name].fields]
        self.context = min((specs[name].max_length for name in self.timed), default=1)
        self._windows = {name: self._nothing(specs[name]) for name in self.timed}
        self._constants = {
            name: _padded([constant[name] for constant in constants], specs[name])
            for name in names
            if name not in self.timed
        }
        self._seen = 0

    @property
    def num_steps(self) -> int:
        """Steps that are heard now."""
        return min(self._seen, self.context)

    @property
    def is_cropped(self) -> bool:
        """Whether there were earlier steps, which are not heard any more."""
        return self._seen > self.context

    def see(self, observation: Observation, to_go: Float[Tensor, " n"], reward: Float[Tensor, " n"]) -> None:
        """A new step begins."""
        self._seen += 1
        given = {"return": {"values": to_go[:, None]}, "reward": {"values": reward[:, None]}}
        for name in self.timed:
            if name == self._action:
                continue
            if name in observation[0]:
                fields = {key: torch.stack([one[name][key] for one in observation]) for key in observation[0][name]}
            else:
                fields = given[name]
            self._append(name, fields)

    def act(self, actions: Tensor) -> None:
        """The step ends with an action in every episode."""
        if self._action in self.timed:
            key = next(key for key in ("class", "values") if key in self._specs[self._action].fields)
            self._append(self._action, {key: actions})

    def batch(self, index: Int[Tensor, " b"]) -> Batch:
        """The window that some episodes hear."""
        fields: dict[str, dict[str, Tensor]] = {}
        lengths: dict[str, Tensor] = {}
        full: dict[str, bool] = {}
        first = self._seen - self.num_steps
        for name, window in self._windows.items():
            length = self.num_steps - (name == self._action)
            heard = {key: values[index, -max(length, 1) :] for key, values in window.items()}
            heard["times"] = torch.arange(first, first + max(length, 1)).expand(len(index), -1)
            fields[name], lengths[name], full[name] = heard, torch.full((len(index),), length), length > 0
        for name, (constant, counts, width) in self._constants.items():
            fields[name], lengths[name] = {key: values[index] for key, values in constant.items()}, counts[index]
            full[name] = bool((lengths[name] == width).all())
        return Batch(fields, lengths, full, index)

    def _append(self, name: str, fields: Mapping[str, Tensor]) -> None:
        window = self._windows[name]
        for key, values in fields.items():
            window[key] = torch.cat([window[key][:, 1:], values[:, None].to(window[key].dtype)], 1)

    def _nothing(self, spec: Spec) -> dict[str, Tensor]:
        """A window of zeros, of which nothing is heard."""
        return {
            key: torch.zeros(self._count, self.context, *[size or 0 for size in f.shape[1:]], dtype=f.dtype)
            for key, f in spec.fields.items()
            if key != "times"
        }


class Listener:
    """What the model makes of the steps so far.

    Keys and values of earlier steps are kept as long as that is exact: while no step has left the window, and where no
    token of an earlier step hears anything that comes later: steps are on the last clock of the set, actions come last
    in their step, and none of both goes through an encoder.

    Args:
        model: in eval mode.
        objective: that chooses actions.
        names: of the set, those that are heard.
        timed: those that have something new in every step.
        cache: False: compute everything anew in every step.
    """

    def __init__(
        self,
        model: MultimodalTransformer,
        objective: Actor,
        names: Sequence[str],
        timed: Sequence[str],
        *,
        cache: bool,
    ) -> None:
        self._model, self._objective, self._timed = model, objective, list(timed)
        decoded = [name for name in model.decoded if name in names]
        clocks = list(dict.fromkeys(model.clock_of[name] for name in decoded))
        on_last = [name for name in decoded if model.clock_of[name] == clocks[-1]]
        ends_step = objective.action not in timed or on_last[-1] == objective.action
        self._exact = cache and on_last == self._timed and ends_step
        self._per_step = {
            name: int(model.tokenizer(name).num_tokens(torch.ones(1, dtype=torch.long))) for name in timed
        }
        self._layers: list[LayerCache] = []
        self._rows = torch.zeros(0, dtype=torch.long)

    def hear(self, history: History, acting: Int[Tensor, " b"], device: torch.device) -> tuple[HiddenStates, int]:
        """What became of the steps of some episodes, or of the last step alone; and how many steps that is."""
        token_set = self._model.tokenize(history.batch(acting).to(device))
        self._exact = self._exact and not history.is_cropped
        if not self._exact:
            return self._model.run(token_set), history.num_steps
        columns = self._arrivals(token_set, history.num_steps)
        if not self._layers:
            self._layers = self._model.backbone.new_cache(len(columns) + history.context * sum(self._per_step.values()))
        elif len(acting) < len(self._rows):
            kept = torch.isin(self._rows, acting).nonzero()[:, 0].to(device)
            for layer in self._layers:
                layer.select(kept)
        self._rows = acting
        new = columns[self._layers[0].length :]
        memory = self._model.remember(token_set.memory) if token_set.memory is not None else None
        asking = (token_set.content + token_set.place)[:, new]
        connectivity = token_set.connectivity.arranged(columns).tail(len(new))
        hidden = self._model.backbone(asking, connectivity, cache=self._layers, memory=memory)
        return self._last_step(hidden, new, token_set), 1

    def _arrivals(self, token_set: TokenSet, num_steps: int) -> Int[Tensor, " n"]:
        """Where the tokens stand in the set, in the order in which they have come up to now."""
        constant = [span for name, span in token_set.spans.items() if name not in self._timed]
        columns = [torch.arange(span.start, span.stop) for span in constant]
        for step in range(num_steps):
            for name in sorted(self._timed, key=lambda name: name != self._objective.action):
                at, size = step - (name == self._objective.action), self._per_step[name]
                if at >= 0:
                    start = token_set.spans[name].start + at * size
                    columns.append(torch.arange(start, start + size))
        return torch.cat(columns).to(token_set.content.device)

    def _last_step(self, hidden: Float[Tensor, "B n D"], new: Int[Tensor, " n"], token_set: TokenSet) -> HiddenStates:
        """Only the tokens that are read."""
        read, size = token_set.spans[self._objective.read], self._per_step[self._objective.read]
        is_read = (new >= read.start) & (new < read.stop)
        valid = token_set.connectivity.valid[:, new][:, is_read]
        return HiddenStates(hidden[:, is_read], valid, {self._objective.read: Span(0, size, 0, 0)})


def _padded(given: Sequence[Mapping[str, Tensor]], spec: Spec) -> tuple[dict[str, Tensor], Tensor, int]:
    """Parts of unequal length side by side, padded at the end as collating does; their lengths, and the longest."""
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
    return fields, torch.tensor(counts), longest
