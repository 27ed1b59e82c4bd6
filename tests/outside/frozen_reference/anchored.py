"""Classes, learned without moving far from what the model made of the samples at the start."""

import torch
import torch.nn.functional as F
from torch import nn

from mmtx.objectives.base import Example, Objective, Score


class Anchored(Objective):
    labels = ("label",)
    directions = {"distance": None}
    uses_reference = True

    def __init__(self, *, specs, model, weight: float, strength: float) -> None:
        super().__init__(weight=weight)
        self.strength = strength
        self.head = nn.Linear(model.backbone.dim, specs["label"].fields["class"].num_classes)

    def count(self, batch):
        return batch.present("label").sum()

    def pooled(self, model, batch):
        states = model(batch)
        return states.hidden.sum(1) / states.valid.sum(1, keepdim=True).clamp(min=1)

    def forward(self, model, batch):
        pooled, present, classes = self.pooled(model, batch), batch.present("label"), batch["label"]["class"]
        with torch.no_grad():
            start = self.pooled(self.reference, batch)
        distance = (pooled - start).square().mean(1) * present
        loss = F.cross_entropy(self.head(pooled), classes, reduction="none") * present
        return Score(
            (loss + self.strength * distance).sum(), present.sum(), {"distance": (distance.sum(), present.sum())}
        )

    def metrics(self, score):
        return {"loss": score.mean_loss(), "distance": score.ratio("distance")}

    def examples(self, model, batch):
        found, truth = self.head(self.pooled(model, batch)).argmax(1).tolist(), batch["label"]["class"].tolist()
        return [Example(str(a), str(b), a == b) for a, b in zip(found, truth, strict=True)]
