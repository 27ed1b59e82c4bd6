"""How well a model acts: roll-outs in the environment of its data, summed up."""

import math
import statistics
from collections.abc import Sequence

from mmtx.acting.video import Filmed
from mmtx.data.base import Source
from mmtx.decoding.rollouts import Episode, roll_out
from mmtx.environment import FIRST_SEED, Playable
from mmtx.learner import Learner
from mmtx.metric_directions import PLAYED, Direction, known
from mmtx.objectives.capabilities import Acts, Plans
from mmtx.process.stopping import track

SIDE_BY_SIDE = 128
"""Episodes that are stepped together."""


def acting_objective(learner: Learner, source: object) -> Acts | Plans | None:
    """The objective that acts, if there is one for this data and the data has an environment to act in."""
    if not isinstance(source, Playable) or not source.can_play:
        return None
    applying = (learner.objective(name) for name in learner.applying(names_of(learner, source)))
    return next((objective for objective in applying if isinstance(objective, Acts | Plans)), None)


def names_of(learner: Learner, source: object) -> list[str]:
    """The names a learner knows that this data has: all, unless the data is a part of a mixture."""
    return [name for name in learner.specs if not isinstance(source, Source) or name in source.specs]


def play(learner: Learner, source: object, split: str, *, num_filmed: int = 0) -> list[list[Episode]]:
    """Episodes for each target return (in validation, for the first); one list where there is no target, and nothing
    where no objective acts or the data has no environment.

    Args:
        learner: in eval mode.
        source: the data, in whose environment it acts.
        split: ``val`` or ``test``: which seeds, and how many of them.
        num_filmed: how many episodes of the first list keep their frames.
    """
    objective = acting_objective(learner, source)
    if objective is None or split not in objective.num_episodes:
        return []
    assert isinstance(source, Playable)
    targets = target_returns(learner, objective, source)
    seeds = range(FIRST_SEED[split], FIRST_SEED[split] + objective.num_episodes[split])
    return [
        play_seeds(learner, objective, source, seeds, target, num_filmed=0 if index else num_filmed)
        for index, target in enumerate(targets[:1] if split == "val" else targets)
    ]


def target_returns(learner: Learner, objective: Acts | Plans, source: Playable) -> list[float] | list[None]:
    """The returns that it acts for, each once; ``[None]`` where the set holds no ``return``."""
    if "return" not in learner.model.names or "return" not in names_of(learner, source):
        return [None]
    return list(dict.fromkeys(objective.target_returns or [source.best_return]))


def play_seeds(
    learner: Learner,
    objective: Acts | Plans,
    source: Playable,
    seeds: Sequence[int],
    target: float | None,
    *,
    num_filmed: int = 0,
    cache: bool = True,
) -> list[Episode]:
    """An episode for each seed, some of them side by side.

    Args:
        learner: in eval mode.
        objective: that acts.
        source: the data, in whose environment it acts.
        seeds: of the episodes.
        target: the return to act for; None where the set holds no ``return``.
        num_filmed: how many of the first episodes keep their frames.
        cache: keep keys and values of earlier steps where that is exact.
    """
    episodes: list[Episode] = []
    for start in track(range(0, len(seeds), SIDE_BY_SIDE), f"{len(seeds)} episodes, part"):
        some, filmed = seeds[start : start + SIDE_BY_SIDE], max(0, num_filmed - start)
        environment = source.environment(len(some))
        try:
            episodes += roll_out(
                learner.model,
                objective,
                {name: learner.specs[name] for name in names_of(learner, source)},
                Filmed(environment) if filmed else environment,
                some,
                target_returns=None if target is None else [target] * len(some),
                return_scale=source.return_scale,
                num_filmed=filmed,
                cache=cache,
            )
        finally:
            environment.close()
    return episodes


def play_metrics(source: Playable, played: Sequence[Sequence[Episode]]) -> dict[str, float]:
    """What `summed_up` gives of the first target return; of each other one, the mean, ``return_asked_<target>``."""
    metrics = summed_up(source, played[0])
    for some in played[1:]:
        assert some[0].target_return is not None
        metrics[_target_metric(some[0].target_return)] = statistics.fmean(e.earned for e in some)
    return metrics


def acting_directions(learner: Learner, source: object, split: str) -> dict[str, Direction | None]:
    """Which way those metrics are better that `play_metrics` may give of a split; nothing where no objective acts. Of
    another target return neither more nor less is better: it is to be that return."""
    objective = acting_objective(learner, source)
    if objective is None or split not in objective.num_episodes:
        return {}
    assert isinstance(source, Playable)
    others = target_returns(learner, objective, source)[1:] if split == "test" else []
    targets = {_target_metric(target): None for target in others if target is not None}
    return {**known("episodes", *PLAYED, *(f"{name}_sd" for name in PLAYED)), **targets}


def summed_up(source: Playable, episodes: Sequence[Episode]) -> dict[str, float]:
    """``return``, ``return_normalised``, ``success_rate`` and ``episode_length`` where they are known, each with its
    standard deviation ``_sd`` (of one episode, NaN), and their number, ``episodes``."""
    values = {"return": [e.earned for e in episodes], "episode_length": [float(e.length) for e in episodes]}
    low, high = source.reference_returns or (0.0, 0.0)
    if low != high:
        values["return_normalised"] = [100 * (e.earned - low) / (high - low) for e in episodes]
    known = [float(e.success) for e in episodes if e.success is not None]
    if known:
        values["success_rate"] = known
    metrics = {"episodes": float(len(episodes))}
    for name, each in values.items():
        metrics |= {name: statistics.fmean(each), f"{name}_sd": statistics.stdev(each) if len(each) > 1 else math.nan}
    return metrics


def record(episode: Episode, seed: int) -> dict[str, int | float | None]:
    """One episode, as a line of a file."""
    return {
        "seed": seed,
        "target_return": episode.target_return,
        "return": episode.earned,
        "length": episode.length,
        "success": episode.success,
    }


def _target_metric(target: float) -> str:
    """The metric of a target return, as short as can be without being that of another: 500.0 is 500."""
    short = f"{target:g}"
    return f"return_asked_{short if float(short) == target else repr(float(target))}"
