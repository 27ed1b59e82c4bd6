"""A model with what it learns: the one module that is trained, saved and loaded."""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import nn

from mmtx.batch import Batch, Spec
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Objective, Score


class Learner(nn.Module):
    """A model and its objectives.

    Args:
        model: the multimodal transformer.
        objectives: ``{name: Objective}``.
        specs: what the data declared; enough to make a fake batch and to read predictions.
    """

    def __init__(
        self, *, model: MultimodalTransformer, objectives: Mapping[str, Objective], specs: Mapping[str, Spec]
    ) -> None:
        super().__init__()
        self.model, self.objectives, self.specs = model, nn.ModuleDict(objectives), dict(specs)

    def forward(self, batch: Batch) -> dict[str, Score]:
        """The score of every objective that applies to the batch."""
        with self.model.sharing():
            return {name: self.objective(name)(self.model, batch) for name in self.applying(batch)}

    def applying(self, names: Batch | Container[str]) -> list[str]:
        """The objectives that have what they need in a batch, or in data of these names."""
        return [name for name in self.objectives if self.objective(name).applies(names)]

    def objective(self, name: str) -> Objective:
        objective = self.objectives[name]
        assert isinstance(objective, Objective)
        return objective

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
