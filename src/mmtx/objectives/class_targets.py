"""What is predicted of classes: one of them for each sample, or any number of them at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from mmtx.batch import Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import Direction, known
from mmtx.objectives.base import Score
from mmtx.objectives.label_metrics import f1_scores, mean_average_precision

Each = dict[str, tuple[Shaped[Tensor, " B"], Shaped[Tensor, " B"]]]
"""``{name: (sum, count)}`` of each sample."""


class ClassTarget(ABC):
    """The target of a classification, its loss and its metrics.

    Attributes:
        field: of the data, that holds it.
        column: type of a prediction in a table.
        directions: of its metrics.
    """

    field: str
    column: Any
    directions: Mapping[str, Direction | None]

    @abstractmethod
    def weights(
        self, target: Shaped[Tensor, "B *classes"], class_weights: Float[Tensor, " classes"] | None
    ) -> Num[Tensor, " B"]:
        """What each sample counts for in the mean of the loss; without weights of classes, how many predictions."""

    @abstractmethod
    def loss(
        self,
        logits: Float[Tensor, "B classes"],
        target: Shaped[Tensor, "B *classes"],
        smoothing: float,
        class_weights: Float[Tensor, " classes"] | None,
    ) -> Float[Tensor, " B"]:
        """The weighted loss of each sample, summed over its predictions."""

    @abstractmethod
    def chosen(self, logits: Float[Tensor, "B classes"]) -> Shaped[Tensor, "B *classes"]:
        """What is predicted, as the target has it."""

    @abstractmethod
    def probabilities(self, logits: Float[Tensor, "B classes"]) -> Float[Tensor, "B classes"]:
        """Of each class."""

    @abstractmethod
    def named(self, values: Shaped[Tensor, "B *classes"], names: Sequence[str]) -> list[Any]:
        """The name of the class, or the names of all labels, that each sample has or was predicted to have."""

    @abstractmethod
    def members(self, target: Shaped[Tensor, "n *classes"]) -> Num[Tensor, " classes"]:
        """How many of some samples have each class."""

    def sums(
        self, logits: Float[Tensor, "B classes"], target: Shaped[Tensor, "B *classes"], real: Bool[Tensor, " B"]
    ) -> Each:
        """Statistics of each sample, for metrics that follow from sums."""
        return {}

    def rows(
        self, logits: Float[Tensor, "B classes"], target: Shaped[Tensor, "B *classes"], real: Bool[Tensor, " B"]
    ) -> dict[str, tuple[Tensor]]:
        """A row for each sample, for other metrics."""
        return {}

    @abstractmethod
    def metrics(self, score: Score) -> dict[str, float]:
        """Those of `directions`, as far as the score has what they need."""


class OneClass(ClassTarget):
    """One class for each sample: softmax and cross-entropy. Metric: accuracy."""

    field, column, directions = "class", str, known("accuracy")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def weights(self, target: Tensor, class_weights: Tensor | None) -> Num[Tensor, " B"]:
        return torch.ones_like(target) if class_weights is None else class_weights[target]

    def loss(
        self, logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None
    ) -> Float[Tensor, " B"]:
        return F.cross_entropy(
            logits.float(), target, weight=class_weights, reduction="none", label_smoothing=smoothing
        )

    def chosen(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def named(self, values: Tensor, names: Sequence[str]) -> list[str]:
        return [names[code] for code in values.tolist()]

    def members(self, target: Tensor) -> Num[Tensor, " classes"]:
        return target.bincount(minlength=self.num_classes)

    def sums(self, logits: Tensor, target: Tensor, real: Tensor) -> Each:
        return {"accuracy": ((self.chosen(logits) == target) & real, real)}

    def metrics(self, score: Score) -> dict[str, float]:
        return {"accuracy": score.ratio("accuracy")}


class SeveralLabels(ClassTarget):
    """Any number of classes for each sample, none as well: a sigmoid and binary cross-entropy for each class, the mean
    over classes and samples. Metrics, of evaluations: mean average precision (macro) and F1 (micro and macro), by what
    is more likely than not."""

    field, column, directions = "labels", list[str], known("mAP", "f1_micro", "f1_macro")

    def weights(self, target: Tensor, class_weights: Tensor | None) -> Num[Tensor, " B"]:
        each = target.shape[1] if class_weights is None else class_weights.sum()
        return torch.ones_like(target[:, 0], dtype=torch.long) * each

    def loss(
        self, logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None
    ) -> Float[Tensor, " B"]:
        wanted = target.float() * (1 - smoothing) + smoothing / 2  # spread over the two answers
        return F.binary_cross_entropy_with_logits(logits.float(), wanted, weight=class_weights, reduction="none").sum(1)

    def chosen(self, logits: Tensor) -> Tensor:
        return logits > 0

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def named(self, values: Tensor, names: Sequence[str]) -> list[list[str]]:
        return [[name for name, there in zip(names, row, strict=True) if there] for row in values.tolist()]

    def members(self, target: Tensor) -> Num[Tensor, " classes"]:
        return target.sum(0)

    def rows(self, logits: Tensor, target: Tensor, real: Tensor) -> dict[str, tuple[Tensor]]:
        return {"logits": (logits.float(),), "labels": (target,), "real": (real,)}

    def metrics(self, score: Score) -> dict[str, float]:
        if not score.rows:
            return {}
        logits, labels, real = (torch.cat(score.rows[name]) for name in ("logits", "labels", "real"))
        if not real.any():
            return dict.fromkeys(self.directions, float("nan"))
        logits, labels = logits[real], labels[real]
        return {"mAP": mean_average_precision(logits, labels), **f1_scores(self.chosen(logits), labels)}


def class_target(label: str, spec: Spec) -> ClassTarget:
    """The target that the data have under a name.

    Raises:
        InvalidValue: they have neither a class nor labels.
    """
    one, several = spec.fields.get("class"), spec.fields.get("labels")
    if one is not None and one.num_classes:
        return OneClass(one.num_classes)
    if several is not None and several.num_classes and several.dtype == torch.bool:
        return SeveralLabels()
    raise InvalidValue("label", label, "has no field 'class' or 'labels' with num_classes, the latter of bools")
