"""Metrics of a trained model on any split."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmtx.act import Episode
from mmtx.data.base import Source
from mmtx.data.left_out import check_left_out, count_left_out
from mmtx.data.module import DataModule
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.base import Score
from mmtx.playing import play, play_metrics
from mmtx.world import Playable


@torch.no_grad()
def evaluate_learner(
    learner: Learner, data: DataModule, split: str, drop: Sequence[str] = ()
) -> dict[str, float] | None:
    """``{"<split>/<metric>": value}``, named as in training; None if the data has no such split.

    Args:
        learner: in eval mode.
        data: whose split is read, on one process.
        split: ``train``, ``val`` or ``test``.
        drop: names that all samples are to lack; the learner then does not act, since worlds cannot be told to.

    Raises:
        InvalidValue: without these names there is nothing left to hear or to predict.
    """
    _check_drop(learner, drop)
    acting = {} if drop else acting_metrics(data.source, split, play(learner, data.source, split))
    loader = data.eval_loader(split, rank=0, num_ranks=1)
    if loader is None:
        return acting or None
    totals: dict[str, torch.Tensor] = {}
    stats: dict[str, list[str]] = {}
    left_out = torch.zeros(2, dtype=torch.long)
    for batches in loader:
        left_out += count_left_out(batches)
        batch = batches[0]
        batch = batch.without({name: torch.ones(len(batch), dtype=torch.bool) for name in drop})
        for name, score in learner(batch).items():
            totals[name] = totals[name] + score.vector() if name in totals else score.vector()
            stats[name] = list(score.stats)
    metrics = stage_metrics(learner, split, {name: (totals[name], stats[name]) for name in totals})
    count, seen = (int(value) for value in left_out)
    check_left_out(count, seen, data.max_bad_share)
    return metrics | acting | ({f"{split}/skipped_samples": float(count)} if count else {})


def _check_drop(learner: Learner, drop: Sequence[str]) -> None:
    names = learner.model.names
    for name in drop:
        if name not in names:
            raise InvalidValue("drop", list(drop), f"names {name}, which is not in the set", f"one of {names}")
        if learner.predicts(name):
            raise InvalidValue("drop", list(drop), f"would leave out {name}, which is to be predicted")
    if drop and not set(names) - set(drop):
        raise InvalidValue("drop", list(drop), "leaves nothing of the set", f"some of {names}")


def acting_metrics(source: Source, stage: str, played: Sequence[Sequence[Episode]]) -> dict[str, float]:
    """Metrics of what was played in the world of the data: ``stage/return`` and more; none where nothing was."""
    if not played:
        return {}
    assert isinstance(source, Playable)
    return {f"{stage}/{metric}": value for metric, value in play_metrics(source, played).items()}


def stage_metrics(learner: Learner, stage: str, parts: dict[str, tuple[torch.Tensor, list[str]]]) -> dict[str, float]:
    """Metrics of added-up scores, named ``stage/metric``, or ``stage/objective/metric`` where there are several
    objectives; ``stage/loss`` is their weighted sum. What only one of several has is there by its short name, too.

    Args:
        learner: whose objectives they are.
        stage: ``train``, ``val`` or ``test``.
        parts: for each objective, its summed `Score.vector` and the names of its stats.
    """
    metrics: dict[str, float] = {}
    owners: dict[str, list[float]] = {}
    total = 0.0
    for name, (vector, names) in parts.items():
        objective = learner.objective(name)
        own = objective.metrics(Score.from_vector(vector, names))
        total += objective.weight * own["loss"]
        prefix = stage if len(parts) == 1 else f"{stage}/{name}"
        metrics |= {f"{prefix}/{metric}": value for metric, value in own.items()}
        for metric, value in own.items():
            owners.setdefault(metric, []).append(value)
    metrics |= {f"{stage}/{metric}": values[0] for metric, values in owners.items() if len(values) == 1}
    return metrics | {f"{stage}/loss": total} if parts else metrics
