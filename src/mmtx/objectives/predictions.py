"""What objectives predict of samples, as columns of a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxtyping import Bool
from torch import Tensor, stack

from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.linear_cross_entropy import Predictions
from mmtx.objectives.base import Objective
from mmtx.objectives.capabilities import Predicts

TEXTS: Mapping[str, Any] = {"predicted": str, "truth": str}
"""The columns of a text, and of an objective that does not offer others."""

IDS: Mapping[str, Any] = {"nats": float, "ids": int, "right_ids": int}
"""How well the ids of a text are predicted: the sum of their negative log-likelihoods, how many ids there are, and of
how many the best score is theirs."""


def columns_of(objective: Objective) -> Mapping[str, Any]:
    """``{column: type}``, see `Predicts`."""
    return objective.columns if isinstance(objective, Predicts) else TEXTS


def predictions_of(
    objective: Objective, model: MultimodalTransformer, batch: Batch, prepared: Batch
) -> Mapping[str, Sequence[Any]]:
    """The values of all columns, one for each sample.

    Args:
        objective: in eval mode.
        model: in eval mode.
        batch: as the data have it.
        prepared: as the objective prepared it.
    """
    if isinstance(objective, Predicts):
        return objective.predictions(model, prepared)
    examples = objective.examples(model, batch)
    return {"predicted": [each.predicted for each in examples], "truth": [each.truth for each in examples]}


def where(present: Iterable[bool], values: Iterable[Any]) -> list[Any]:
    """The values, and None for each sample that has none."""
    return [value if there else None for there, value in zip(present, values, strict=True)]


def id_scores(rows: Sequence[Predictions], real: Bool[Tensor, "B n"]) -> dict[str, list[Any]]:
    """The columns `IDS`.

    Args:
        rows: of each sample, as an evaluation computes them.
        real: which ids are predicted.
    """
    right = stack([row.right.sum() for row in rows if row.right is not None])
    nats = stack([row.loss.double() for row in rows])
    return {"nats": nats.tolist(), "ids": real.sum(1).tolist(), "right_ids": right.tolist()}
