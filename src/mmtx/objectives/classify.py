"""Classification of a whole sample."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_spec
from mmtx.objectives.pooling import Pool


class Classify(Objective):
    """One class per sample, read from the pooled set.

    Args:
        label: name of the data whose field ``class`` is predicted.
        pool: from tokens to one vector.
        label_smoothing: share of the target spread over all classes, in training (Szegedy et al. 2015).
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        label: str,
        pool: Pool,
        label_smoothing: float,
        dropout: float,
    ) -> None:
        super().__init__(weight=weight)
        spec = required_spec(label, specs, "label")
        if "class" not in spec.fields or not spec.fields["class"].num_classes:
            raise InvalidValue("label", label, "has no field 'class' with num_classes")
        if not 0 <= label_smoothing < 1:
            raise InvalidValue("label_smoothing", label_smoothing, "must lie in [0, 1)")
        pool.check(model)
        self.labels, self.label, self.pool = (label,), label, pool
        self.label_smoothing = label_smoothing
        self.names = spec.labels
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(model.backbone.dim, spec.fields["class"].num_classes)
        initialise(self.head, std=model.backbone.init_std)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch.present(self.label).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        logits = self.logits(model, batch)
        target, present = batch[self.label]["class"], batch.present(self.label)
        loss = F.cross_entropy(
            logits.float(), target, reduction="none", label_smoothing=self.label_smoothing if self.training else 0.0
        )
        right = (logits.argmax(-1) == target) & present
        count = present.sum()
        return Score((loss * present).sum(), count, {"accuracy": (right.sum(), count)})

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), "accuracy": score.ratio("accuracy")}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted = self.logits(model, batch).argmax(-1).tolist()
        truth, present = batch[self.label]["class"].tolist(), batch.present(self.label).tolist()
        return [
            Example(self._name(p), self._name(t), p == t) if known else Example(self._name(p), "")
            for p, t, known in zip(predicted, truth, present, strict=True)
        ]

    def logits(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B classes"]:
        """Scores of the classes."""
        return self.head(self.dropout(self.pool(model(batch))))

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)
