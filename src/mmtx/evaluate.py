"""Metrics of a trained model on any split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from mmtx.acting.policy_eval import play, play_metrics
from mmtx.batch import Batch
from mmtx.data.base import Source
from mmtx.data.loaders import DataModule
from mmtx.data.skipped_samples import check_skipped, count_skipped
from mmtx.decoding.rollouts import Episode
from mmtx.directions import KNOWN, Direction, known
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.base import Score
from mmtx.process.stopping import track
from mmtx.world import Playable

Totals = dict[str, tuple[torch.Tensor, list[str]]]
"""For each objective, its summed `Score.vector` and the names of its stats."""


@torch.no_grad()
def evaluate_learner(
    learner: Learner, data: DataModule, split: str, drop: Sequence[str] = ()
) -> dict[str, float] | None:
    """``{"<split>/<metric>": value}``, named as in training; None if the data has no such split.

    Args:
        learner: in eval mode, on the device to compute on.
        data: whose split is read, on one process.
        split: ``train``, ``val`` or ``test``.
        drop: names that all samples are to lack; the learner then does not act, since worlds cannot be told to.

    Raises:
        InvalidValue: without these names there is nothing left to hear or to predict.
    """
    _check_drop(learner, data.source, drop)
    acting: dict[str, float] = {}
    for part, source in data.source.parts.items() if not drop else ():
        acting |= acting_metrics(source, under(split, part), play(learner, source, split))
    summed: dict[str, Totals] = {}
    device = next(learner.parameters()).device
    left_out = torch.zeros(2, dtype=torch.long)
    for part, loader in data.eval_loaders(split, rank=0, num_ranks=1).items():
        totals: Totals = {}
        for batches in track(loader, "evaluating, batch"):
            left_out += count_skipped(batches)
            add_scores(totals, learner(_without(batches[0], drop).to(device)))
        summed[part] = {name: (vector.cpu(), stats) for name, (vector, stats) in totals.items()}
    count, seen = (int(value) for value in left_out)
    check_skipped(count, seen, data.max_bad_share)
    skipped = {f"{split}/skipped_samples": float(count)} if count else {}
    return parts_metrics(learner, split, summed) | acting | skipped or None


def add_scores(totals: Totals, scores: Mapping[str, Score]) -> None:
    """Adds the scores of a batch to those of others."""
    add_totals(totals, {name: (score.vector(), list(score.stats)) for name, score in scores.items()})


def add_totals(totals: Totals, more: Totals) -> None:
    """Adds sums to others."""
    for name, (vector, stats) in more.items():
        totals[name] = (totals[name][0] if name in totals else 0.0) + vector, stats


def _without(batch: Batch, drop: Sequence[str]) -> Batch:
    everywhere = torch.ones(len(batch), dtype=torch.bool)
    return batch.without({name: everywhere for name in drop if name in batch})


def _check_drop(learner: Learner, source: Source, drop: Sequence[str]) -> None:
    names = learner.model.names
    for name in drop:
        if name not in names:
            raise InvalidValue("drop", list(drop), f"names {name}, which is not in the set", f"one of {names}")
        if learner.predicts(name):
            raise InvalidValue("drop", list(drop), f"would leave out {name}, which is to be predicted")
    for part, own in source.parts.items():
        here = [name for name in names if name in own.specs]
        if drop and not set(here) - set(drop):
            whole = f"what the set has of data.parts.{part}" if part else "the set"
            raise InvalidValue("drop", list(drop), f"leaves nothing of {whole}", f"some of {here}")


def acting_metrics(source: Source, stage: str, played: Sequence[Sequence[Episode]]) -> dict[str, float]:
    """Metrics of what was played in the world of the data: ``stage/return`` and more; none where nothing was."""
    if not played:
        return {}
    assert isinstance(source, Playable)
    return {f"{stage}/{metric}": value for metric, value in play_metrics(source, played).items()}


def parts_metrics(learner: Learner, stage: str, parts: Mapping[str, Totals]) -> dict[str, float]:
    """`stage_metrics` of every part of the data, named ``stage/part/...``, and ``stage/loss`` of all of it; of data
    that has no parts, `stage_metrics`.

    Args:
        learner: whose objectives they are.
        stage: ``train``, ``val`` or ``test``.
        parts: sums of each part.
    """
    if list(parts) == [""]:
        return stage_metrics(learner, stage, parts[""])
    metrics: dict[str, float] = {}
    whole: Totals = {}
    for part, totals in parts.items():
        metrics |= stage_metrics(learner, under(stage, part), totals)
        add_totals(whole, totals)
    key = f"{stage}/loss"
    return metrics | {name: value for name, value in stage_metrics(learner, stage, whole).items() if name == key}


def under(stage: str, part: str) -> str:
    """What the metrics of a part of the data begin with."""
    return f"{stage}/{part}" if part else stage


def stage_metrics(learner: Learner, stage: str, parts: Totals) -> dict[str, float]:
    """Metrics of added-up scores, named ``stage/metric``, or ``stage/objective/metric`` where there are several
    objectives; ``stage/loss`` is their weighted sum. What only one of several has is there by its short name, too.
    Where one of several had nothing to predict, it is left out, and so are short names, which might be its own.

    Args:
        learner: whose objectives they are.
        stage: ``train``, ``val`` or ``test``, maybe with the name of a part.
        parts: sums of the objectives.
    """
    metrics: dict[str, float] = {}
    owners: dict[str, list[float]] = {}
    total = 0.0
    counted = {name: sums for name, sums in parts.items() if len(parts) == 1 or sums[0][1]}
    for name, (vector, names) in counted.items():
        objective = learner.objective(name)
        own = objective.metrics(Score.from_vector(vector, names))
        total += objective.weight * own["loss"]
        prefix = stage if len(parts) == 1 else f"{stage}/{name}"
        metrics |= {f"{prefix}/{metric}": value for metric, value in own.items()}
        for metric, value in own.items():
            owners.setdefault(metric, []).append(value)
    if len(counted) == len(parts):
        metrics |= {f"{stage}/{metric}": values[0] for metric, values in owners.items() if len(values) == 1}
    return metrics | {f"{stage}/loss": total} if metrics else metrics


def stage_directions(learner: Learner, stage: str, names: Sequence[str]) -> dict[str, Direction | None]:
    """Which way those metrics are better that `stage_metrics` may give, named as there.

    Args:
        learner: whose objectives they are.
        stage: ``train``, ``val`` or ``test``, maybe with the name of a part.
        names: of the objectives that are summed up.
    """
    found: dict[str, Direction | None] = {}
    owners: dict[str, list[Direction | None]] = {}
    for name in names:
        own = known("loss") | dict(learner.objective(name).directions)
        prefix = stage if len(names) == 1 else f"{stage}/{name}"
        found |= {f"{prefix}/{metric}": direction for metric, direction in own.items()}
        for metric, direction in own.items():
            owners.setdefault(metric, []).append(direction)
    in_training = stage.partition("/")[0] == "train"  # where not every owner reports all that it declares
    shared = {m: ways[0] for m, ways in owners.items() if len(ways) == 1 or (in_training and len(set(ways)) == 1)}
    found |= {f"{stage}/{metric}": direction for metric, direction in shared.items()}
    return found | ({f"{stage}/loss": KNOWN["loss"]} if names else {})
