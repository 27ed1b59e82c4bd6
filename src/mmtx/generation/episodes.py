"""Episodes in the environment of the run's data."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmtx.acting.policy_eval import acting_objective, names_of, play_seeds, record, summed_up, target_returns
from mmtx.acting.video import Filmed, write_gif
from mmtx.data.base import Source
from mmtx.data.episodes.episode_source import FIRST_DATA_SEED
from mmtx.environment import Playable
from mmtx.errors import InvalidValue, UserError, check_within
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Acts, Draws, Plans
from mmtx.run.metrics_log import finite


def play_episodes(
    trained: Trained,
    objective: Acts | Plans,
    *,
    part: str | None = None,
    episodes: int = 10,
    target_return: float | list[float] | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    out: str | None = None,
) -> str:
    """Episodes in the environment of the run's data, as JSON, and their sums (objective=[action], or [act_by_flow]).

    Args:
        trained: the model.
        objective: that acts; in a mixture, that of the part is taken.
        part: of a mixture: where to act, needed where several parts have an environment
        episodes: how many, for each target return
        target_return: one or several: target_return=[500,100]; null: those of the run's objective
        temperature: of actions that are drawn; 0 takes the best; null: as trained
        top_k: keep the k best actions
        top_p: keep the smallest set of actions whose probability reaches p
        min_p: keep actions at least as probable as this share of the best one
        out: a .gif file, for a film of the first episode

    Raises:
        UserError: there is nothing to act in, or an option cannot be.
    """
    check_within("episodes", episodes, 1, FIRST_DATA_SEED)
    seeds, (source, objective) = _seeds(trained.seed, episodes), _stage(trained, part)
    objective = _drawing(objective, {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p})
    targets = _targets(trained.learner, objective, source, target_return)
    film = None if out is None else _film_file(out, source, seeds[0])
    filmed = int(film is not None)
    played = [
        play_seeds(
            trained.learner, objective, source, seeds, target, num_filmed=0 if index else filmed, cache=trained.cache
        )
        for index, target in enumerate(targets)
    ]
    if film is not None:
        write_gif(film, [played[0][0].frames])
    lines = [record(episode, seed) for some in played for seed, episode in zip(seeds, some, strict=True)]
    summary = [{"target_return": some[0].target_return, **finite(summed_up(source, some))} for some in played]
    return "\n".join(json.dumps(line) for line in [*lines, {"summary": summary}])


def _seeds(first: int, count: int) -> range:
    if first > FIRST_DATA_SEED - count:
        raise InvalidValue("seed", first, f"and those of all episodes must lie in 0..{FIRST_DATA_SEED - 1}")
    return range(first, first + count)


def _stage(trained: Trained, given: str | None) -> tuple[Playable, Acts | Plans]:
    """The data in whose environment to act, and the objective that acts there. Of a mixture, one part.

    Raises:
        UserError: there is none, or several and no part is given.
    """
    learner, source, path = trained.learner, trained.source(), trained.path
    acting = {part: (own, acting_objective(learner, own)) for part, own in source.parts.items()}
    there = {part: (own, acts) for part, (own, acts) in acting.items() if isinstance(own, Playable) and acts}
    if not there:
        raise UserError(f"{path} has nothing to act in: {_lack(source)}")
    if given is not None and (given not in there or not given):
        hint = f"one of {', '.join(there)}" if len(source.parts) > 1 else None
        raise InvalidValue("part", given, "is no part of the data that can be acted in", hint)
    if given is None and len(there) > 1:
        choices = " or ".join(f"part={part}" for part in there)
        raise UserError(f"{path} can act in several parts of its data: give {choices}")
    return there[given] if given is not None else next(iter(there.values()))


def _drawing(objective: Acts | Plans, options: Mapping[str, Any]) -> Acts | Plans:
    """The objective, drawing its actions as options have it that are not None. Raises InvalidValue if it draws none."""
    given = {key: value for key, value in options.items() if value is not None}
    if not given:
        return objective
    if not isinstance(objective, Draws) or objective.sampling is None:
        key, value = next(iter(given.items()))
        raise InvalidValue(key, value, "cannot be used: the actions of this model are not drawn from scores of classes")
    drawing = copy.copy(objective)
    drawing.sampling = replace(objective.sampling, **given)
    return drawing


def _lack(source: Source) -> str:
    """Why nothing can be played."""
    if len(source.parts) > 1:
        return f"no part of its data ({', '.join(source.parts)}) has an environment"
    if not isinstance(source, Playable):
        return f"{type(source).__name__} is data without an environment"
    return "its data names no environment (data.env=null)"


def _targets(
    learner: Learner, objective: Acts | Plans, source: Playable, given: float | list[float] | None
) -> Sequence[float] | Sequence[None]:
    """The target returns: as given, or as the objective has them."""
    if given is None:
        return target_returns(learner, objective, source)
    if target_returns(learner, objective, source) == [None]:
        names = ", ".join(name for name in learner.model.names if name in names_of(learner, source))
        raise InvalidValue("target_return", given, f"cannot be a target: no 'return' is in the set, which is {names}")
    targets = given if isinstance(given, list) else [given]
    if not targets or not all(abs(target) <= torch.finfo(torch.float32).max for target in targets):
        problem = "must be a number that float32 holds, or a list of some"
        raise InvalidValue("target_return", given, problem, "target_return=[500,100]")
    return list(dict.fromkeys(targets))


def _film_file(out: str, source: Playable, seed: int) -> Path:
    """The file of the film. Raises UserError where it cannot be written or drawn, before anything is played."""
    file = Path(out).expanduser()
    if file.suffix.lower() != ".gif":
        raise InvalidValue("out", out, "must end in .gif")
    if not file.parent.is_dir():
        raise InvalidValue("out", out, "lies in a folder that is not there")
    environment = Filmed(source.environment(1))
    try:
        environment.reset([seed])
        if environment.frame(0) is None:
            raise InvalidValue("out", out, "cannot be filled: this environment draws no pictures here")
    finally:
        environment.close()
    return file
