"""The metrics of a learner on a split: scores summed over batches, parts of the data and ranks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from mmtx.acting.policy_eval import play, play_metrics
from mmtx.batch import Batch
from mmtx.data.base import Source
from mmtx.data.loaders import DataModule
from mmtx.data.skipped_samples import check_skipped, count_skipped
from mmtx.decoding.rollouts import Episode
from mmtx.environment import Playable
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.metric_directions import KNOWN, Direction, known
from mmtx.objectives.base import Score
from mmtx.process.stopping import track

K = TypeVar("K")
V = TypeVar("V")

Gather = Callable[[Any], list[Any]]
"""From a value of this rank to those of all ranks, in their order."""


@torch.no_grad()
def evaluate_learner(
    learner: Learner, data: DataModule, split: str, drop: Sequence[str] = ()
) -> dict[str, float] | None:
    """``{"<split>/<metric>": value}``, named as in training; None if the data has no such split.

    Args:
        learner: in eval mode, on the device to compute on.
        data: whose split is read, on one process.
        split: ``train``, ``val`` or ``test``.
        drop: names that all samples are to lack; the learner then does not act, since no environment can lack them.

    Raises:
        InvalidValue: without these names there is nothing left to attend to or to predict.
    """
    check_drop(learner, data.source, drop)
    acting = {} if drop else act(learner, data.source, split)[0]
    evaluation = Evaluation(learner, split)
    device = next(learner.parameters()).device
    for part, loader in data.eval_loaders(split, rank=0, num_ranks=1).items():
        for batches in track(loader, "evaluating, batch"):
            evaluation.add(part, [without_names(batch, drop).to(device, non_blocking=True) for batch in batches])
    return evaluation.metrics(data.max_bad_share) | acting or None


def without_names(batch: Batch, drop: Sequence[str]) -> Batch:
    """The batch, in which every sample lacks these names; on the host."""
    everywhere = torch.ones(len(batch), dtype=torch.bool)
    return batch.without({name: everywhere for name in drop if name in batch})


def check_drop(learner: Learner, source: Source, drop: Sequence[str]) -> None:
    """Raises InvalidValue if without these names there is nothing left to attend to or to predict."""
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


class Evaluation:
    """Scores summed over batches and ranks, and the metrics that follow from the sums.

    Sums stay on the device of the scores until ranks gather them, so that no batch waits for it.

    Args:
        learner: whose objectives give the scores.
        stage: ``train``, ``val`` or ``test``, with which the metrics' names begin.
        gather: over ranks; by default there is one.
    """

    def __init__(self, learner: Learner, stage: str, gather: Gather = lambda value: [value]) -> None:
        self._learner, self._stage, self._gather = learner, stage, gather
        self._sums: dict[tuple[str, str], Score] = {}
        self._skipped = torch.zeros(2, dtype=torch.long, device=next(learner.parameters()).device)

    def add(self, part: str, batches: Sequence[Batch]) -> None:
        """Scores batches of a part of the data."""
        self._skipped += count_skipped(batches).to(self._skipped.device, non_blocking=True)
        for batch in batches:
            self.add_scores(part, self._learner(batch))

    def add_scores(self, part: str, scores: Mapping[str, Score]) -> None:
        """Adds the scores of a batch of a part of the data."""
        for name, score in scores.items():
            _add(self._sums, (part, name), score.totals())

    def metrics(self, max_bad_share: float) -> dict[str, float]:
        """`stage_metrics` of the data; where it has parts, of each of them, and ``stage/loss`` of all. Beside them
        ``stage/skipped_samples``, where samples could not be read. All ranks have to call this.

        Raises:
            UserError: more than this share of the samples could not be read.
        """
        of_parts, whole, (skipped, seen) = self._summed()
        check_skipped(skipped, seen, max_bad_share)
        metrics, loss = stage_metrics(self._learner, self._stage, whole), f"{self._stage}/loss"
        if of_parts:
            metrics = of_parts | {name: value for name, value in metrics.items() if name == loss}
        return metrics | ({f"{self._stage}/skipped_samples": float(skipped)} if skipped else {})

    def step_metrics(self) -> dict[str, float]:
        """`stage_metrics` of a step of training, and of each part of the data that it had samples of. All ranks have to
        call this."""
        of_parts, whole, _ = self._summed()
        nothing = {name: Score.nothing() for name in self._learner.objectives}
        return of_parts | stage_metrics(self._learner, self._stage, nothing | whole)

    def _summed(self) -> tuple[dict[str, float], dict[str, Score], list[int]]:
        """Over all ranks, some of which may lack parts: the metrics of parts that have a name, the sums of the whole,
        and how many samples were skipped and seen."""
        own = {key: score.totals("cpu") for key, score in self._sums.items()}
        summed: dict[tuple[str, str], Score] = {}
        counts = torch.zeros(2, dtype=torch.long)
        for of_rank, counted in self._gather((own, self._skipped.cpu())):
            counts += counted
            for key, score in of_rank.items():
                _add(summed, key, score)
        parts: dict[str, dict[str, Score]] = {}
        whole: dict[str, Score] = {}
        for (part, name), score in summed.items():
            parts.setdefault(under(self._stage, part), {})[name] = score
            _add(whole, name, score)
        named = {part: totals for part, totals in parts.items() if part != self._stage}
        metrics = [stage_metrics(self._learner, part, totals) for part, totals in named.items()]
        return {name: value for of_part in metrics for name, value in of_part.items()}, whole, counts.tolist()


def _add(totals: dict[K, Score], key: K, score: Score) -> None:
    totals[key] = totals[key] + score if key in totals else score


def act(
    learner: Learner, source: Source, stage: str, num_filmed: int = 0
) -> tuple[dict[str, float], dict[str, list[list[Episode]]]]:
    """Acts in the environment of each part of the data: ``stage/return`` and more, and the episodes of each part by
    target return, `num_filmed` of which keep their frames."""
    metrics: dict[str, float] = {}
    played = {part: play(learner, own, stage, num_filmed=num_filmed) for part, own in source.parts.items()}
    for part, episodes in played.items():
        own = source.parts[part]
        if episodes and isinstance(own, Playable):
            metrics |= {f"{under(stage, part)}/{name}": value for name, value in play_metrics(own, episodes).items()}
    return metrics, played


def under(stage: str, part: str) -> str:
    """What the metrics of a part of the data begin with."""
    return f"{stage}/{part}" if part else stage


def stage_metrics(learner: Learner, stage: str, totals: Mapping[str, Score]) -> dict[str, float]:
    """Metrics of summed scores, named ``stage/metric``, or ``stage/objective/metric`` where there are several
    objectives; ``stage/loss`` is their weighted sum. What only one of several has is there by its short name, too.
    Where one of several had nothing to predict, it is left out, and so are short names, which might be its own. The
    stage may be followed by the name of a part."""
    counted = {name: score for name, score in totals.items() if len(totals) == 1 or score.count}
    own = {name: learner.objective(name).metrics(score) for name, score in counted.items()}
    metrics, short = _named(stage, own, len(totals) == 1)
    if len(counted) == len(totals):
        metrics |= {f"{stage}/{metric}": values[0] for metric, values in short.items() if len(values) == 1}
    loss = 0.0
    for name, of_objective in own.items():
        loss += learner.objective(name).weight * of_objective["loss"]
    return metrics | {f"{stage}/loss": loss} if metrics else metrics


def stage_directions(learner: Learner, stage: str, names: Sequence[str]) -> dict[str, Direction | None]:
    """Which way those metrics are better that `stage_metrics` may give of these objectives, named as there."""
    own = {name: known("loss") | dict(learner.objective(name).directions) for name in names}
    found, short = _named(stage, own, len(names) == 1)
    in_training = stage.partition("/")[0] == "train"  # where not every objective reports all that it declares
    shared = {m: ways[0] for m, ways in short.items() if len(ways) == 1 or (in_training and len(set(ways)) == 1)}
    found |= {f"{stage}/{metric}": direction for metric, direction in shared.items()}
    return found | ({f"{stage}/loss": KNOWN["loss"]} if names else {})


def _named(stage: str, own: Mapping[str, Mapping[str, V]], alone: bool) -> tuple[dict[str, V], dict[str, list[V]]]:
    """What objectives have of each metric, by whole names; and by short ones, which several may share."""
    whole: dict[str, V] = {}
    short: dict[str, list[V]] = {}
    for objective, of_objective in own.items():
        prefix = stage if alone else f"{stage}/{objective}"
        for metric, value in of_objective.items():
            whole[f"{prefix}/{metric}"] = value
            short.setdefault(metric, []).append(value)
    return whole, short
