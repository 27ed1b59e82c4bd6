"""Roll-outs: a model that acts in an environment, many episodes side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.history import History
from mmtx.decoding.notebook import Notes
from mmtx.decoding.step_decoder import Actor, StepDecoder, sent_batch
from mmtx.environment import Environment
from mmtx.errors import UserError
from mmtx.model import MultimodalTransformer
from mmtx.process.stopping import track


@runtime_checkable
class Planner(Protocol):
    """An objective that chooses actions by passes of its own, rather than from the hidden states of one.

    Attributes:
        action: the name of actions in the set.
    """

    action: str

    def plan(
        self, model: MultimodalTransformer, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "B ..."]:
        """Args:
        model: in eval mode.
        batch: the window of each episode, whose last step has no action yet.
        generators: one for each episode, on the CPU.
        """


@runtime_checkable
class TakesNotes(Protocol):
    """An objective whose actions may keep steps of an episode.

    Attributes:
        notes: how many, and between which actions; None: none.
    """

    notes: Notes | None


@dataclass
class Episode:
    """One episode of a model, summed up.

    Attributes:
        target_return: the return it was conditioned on; None: none.
        earned: sum of rewards.
        length: steps.
        success: as the environment reports it; None where it does not.
        frames: of the episode, where it was filmed.
    """

    target_return: float | None
    earned: float = 0.0
    length: int = 0
    success: bool | None = None
    frames: list[Float[Tensor, "3 height width"]] = field(default_factory=list)


@torch.inference_mode()
def roll_out(
    model: MultimodalTransformer,
    objective: Actor | Planner,
    specs: Mapping[str, Spec],
    environment: Environment,
    seeds: Sequence[int],
    *,
    target_returns: Sequence[float] | None,
    return_scale: float,
    num_filmed: int = 0,
    cache: bool = True,
    drawn_from: Sequence[int] | None = None,
) -> list[Episode]:
    """One episode for each seed. An episode does not depend on those beside it.

    The return to go is the target return less the rewards so far. The model sees a window of the last steps, as long
    as the data's context, in which the notes of an objective that `TakesNotes` stay.

    Args:
        specs: what the data declares; names of the set that are not there are left out.
        environment: of as many episodes.
        seeds: of the episodes.
        target_returns: of each episode; None where the set holds no ``return``.
        return_scale: returns and rewards are divided by it.
        num_filmed: so many of the first episodes have their frames kept.
        cache: keep keys and values of earlier steps where that is exact, see `StepDecoder`.
        drawn_from: seed of the actions that are drawn in each episode; None: those of the episodes.
    """
    device = next(model.parameters()).device
    count = len(seeds)
    targets = list(target_returns) if target_returns is not None else [None] * count
    episodes = [Episode(target) for target in targets]
    observation, constants = environment.reset(seeds)
    names = [name for name in model.names if name in specs]
    _check_environment(environment, specs, names, objective.action, {**observation[0], **constants[0]})
    notes = objective.notes if isinstance(objective, TakesNotes) else None
    history = History(specs, names, objective.action, constants, notes)
    if isinstance(objective, Planner):
        choose = partial(_planned, model, objective)
    else:
        choose = partial(_from_states, objective, StepDecoder(model, objective, names, history.timed, cache=cache))
    to_go = torch.tensor([0.0 if target is None else target for target in targets])
    reward = torch.zeros(count)
    generators = [torch.Generator().manual_seed(seed) for seed in (seeds if drawn_from is None else drawn_from)]
    acting = torch.arange(count)
    _film(environment, episodes, acting, num_filmed)
    for _ in track(range(environment.max_steps), "acting, step"):
        history.observe(observation, to_go / return_scale, reward / return_scale)
        draws = [generators[i] for i in acting.tolist()]
        chosen = choose(history, acting, device, draws).cpu()
        actions = chosen.new_zeros(count, *chosen.shape[1:])
        actions[acting] = chosen
        history.act(actions)
        outcome = environment.step(actions)
        reward = outcome.reward
        for index in acting.tolist():
            episodes[index].earned += float(reward[index])
            episodes[index].length += 1
            if outcome.success is not None:
                episodes[index].success = bool(outcome.success[index]) or bool(episodes[index].success)
        _film(environment, episodes, acting, num_filmed)
        to_go, observation = to_go - reward, outcome.observation
        acting = acting[~outcome.over[acting]]
        if not len(acting):
            break
    return episodes


def _from_states(
    actor: Actor,
    decoder: StepDecoder,
    history: History,
    acting: Int[Tensor, " b"],
    device: torch.device,
    generators: Sequence[torch.Generator],
) -> Tensor:
    states, num_steps = decoder.states(history, acting, device)
    return actor.act(states, num_steps, generators)


def _planned(
    model: MultimodalTransformer,
    planner: Planner,
    history: History,
    acting: Int[Tensor, " b"],
    device: torch.device,
    generators: Sequence[torch.Generator],
) -> Tensor:
    return planner.plan(model, sent_batch(history.batch(acting), device), generators)


def _check_environment(
    environment: Environment, specs: Mapping[str, Spec], names: Sequence[str], action: str, shown: Mapping[str, object]
) -> None:
    """Raises UserError if the set holds names that the environment does not show, or times that have no embedding."""
    for name in names:
        if name not in (*shown, "return", "reward", action):
            raise UserError(f"the environment shows no '{name}', which is in the set; it shows {', '.join(shown)}")
        times = specs[name].fields.get("times")
        if times is not None and times.num_classes is not None and environment.max_steps > times.num_classes:
            limit = f"the data declares times below {times.num_classes}: lengthen data.max_steps"
            raise UserError(f"episodes of the environment last {environment.max_steps} steps; of '{name}', {limit}")


def _film(environment: Environment, episodes: Sequence[Episode], acting: Int[Tensor, " b"], num_filmed: int) -> None:
    for index in acting[acting < num_filmed].tolist():
        frame = environment.frame(index)
        episodes[index].frames += [] if frame is None else [frame]
