"""A model with its objectives: the module that is trained, saved and loaded."""

import copy
from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmtx.batch import Batch, Spec, fake_batch
from mmtx.modalities.capabilities import Augments
from mmtx.model import MultimodalTransformer
from mmtx.objectives.averaged_teacher import Teaches
from mmtx.objectives.base import Objective, Score
from mmtx.objectives.capabilities import LaysCopies, Prepares, ScoresStates

EVALUATION_SEED = 0
"""Of what objectives prepare in an evaluation."""


class Learner(nn.Module):
    """A model and its objectives.

    Args:
        model: the multimodal transformer.
        objectives: ``{name: Objective}``.
        specs: of the data it was made for, from which a fake batch can be made and predictions read.

    Attributes:
        config: of a loaded learner, the config it was made from.
        origin: of one from a public family: ``{"family": its name, "config": its config.json, "rest": weights of the
            family without a counterpart here, "made": weights here without one in the family}``.
        statistics: those of layers in the newest call, see `MultimodalTransformer.statistics`, without gradients.
    """

    config: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None

    def __init__(
        self, *, model: MultimodalTransformer, objectives: Mapping[str, Objective], specs: Mapping[str, Spec]
    ) -> None:
        super().__init__()
        self._reference: tuple[MultimodalTransformer, ...] = ()
        self.statistics: Mapping[str, Tensor] = {}
        self.model, self.objectives, self.specs = model, nn.ModuleDict(objectives), dict(specs)

    @property
    def counting(self) -> list[Objective]:
        """The objectives whose loss depends on statistics of layers; one of weight 0 has none."""
        objectives = map(self.objective, self.objectives)
        return [each for each in objectives if each.uses_statistics and each.weight > 0]

    @property
    def teaching(self) -> list[Teaches]:
        """The objectives that keep a teacher."""
        return [each for each in self.objectives.values() if isinstance(each, Teaches)]

    @property
    def uses_reference(self) -> bool:
        """Whether an objective compares with the model at the start of the run."""
        return any(self.objective(name).uses_reference for name in self.objectives)

    @property
    def references(self) -> tuple[MultimodalTransformer, ...]:
        """Frozen copies of the model: as it was at the start of the run, and teachers, where there are such."""
        return *self._reference, *(objective.teacher.model for objective in self.teaching)

    def freeze_reference(self) -> MultimodalTransformer:
        """Copies the model as it is now, for the objectives that compare with it. The copy moves with the learner, and
        is no part of it otherwise: it has no gradients, and is neither trained, averaged nor saved with it."""
        reference = copy.deepcopy(self.model).requires_grad_(False).eval()
        self._reference = (reference,)
        for name in self.objectives:
            self.objective(name)._reference = self._reference
        return reference

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        for reference in self._reference:
            reference._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, batch: Batch | Mapping[str, Batch]) -> dict[str, Score]:
        """The score of every objective that applies to a batch: as the data have it, or as `prepare` made it.
        Those that use statistics come last, when the others have run the model; where one lays copies beside the names
        of the set, all that can be scored by hidden states share its pass."""
        prepared = self.prepare(batch) if isinstance(batch, Batch) else batch
        names = sorted(prepared, key=lambda name: self.objective(name).uses_statistics)
        with self.model.sharing():
            scores = self._from_one_pass(prepared)
            scores |= {name: self.objective(name)(self.model, prepared[name]) for name in names if name not in scores}
            self.statistics = {name: value.detach() for name, value in self.model.statistics.items()}
        return scores

    def _from_one_pass(self, prepared: Mapping[str, Batch]) -> dict[str, Score]:
        """Scores of the only objective that lays copies, and of those that share its pass."""
        scoring = {name: each for name in prepared if isinstance(each := self.objective(name), ScoresStates)}
        laying = [name for name, objective in scoring.items() if isinstance(objective, LaysCopies)]
        if len(laying) != 1:
            return {}
        (first,) = laying
        objective = scoring[first]
        assert isinstance(objective, LaysCopies)
        states = self.model.run(objective.lay(self.model, prepared[first]))
        sharing = [name for name, each in scoring.items() if name == first or not isinstance(each, Prepares)]
        return {name: scoring[name].score_of(self.model, states, prepared[name]) for name in sharing}

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Batch]:
        """The batch of every objective that applies to it: the same, unless an objective prepares its own. In training,
        tokenizers have augmented it.

        Args:
            batch: as the data have it.
            generator: of training, on its device; None, in evaluation: one with the same seed every time.
        """
        prepared = {}
        if generator is not None:
            batch = self._augmented(batch, generator)
        for name in self.applying(batch):
            objective, prepared[name] = self.objective(name), batch
            if isinstance(objective, Prepares):
                device = next(iter(batch.lengths.values())).device
                own = generator or torch.Generator(device).manual_seed(EVALUATION_SEED)
                prepared[name] = objective.prepare(self.model, batch, own)
        return prepared

    def _augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        for name in self.model.names:
            tokenizer = self.model.tokenizer(name)
            if name in batch and isinstance(tokenizer, Augments):
                batch = batch.with_values(name, **tokenizer.augmented(batch[name], generator))
        return batch

    def applying(self, names: Batch | Container[str]) -> list[str]:
        """The objectives that apply to a batch, or to data of these names."""
        return [name for name in self.objectives if self.objective(name).applies(names)]

    def objective(self, name: str) -> Objective:
        objective = self.objectives[name]
        assert isinstance(objective, Objective)
        return objective

    def predicts(self, name: str) -> bool:
        """Whether some objective makes fewer predictions where samples lack this name."""
        batch = fake_batch(self.specs, 1, ragged=False)
        without = batch.without({name: torch.ones(1, dtype=torch.bool)})
        return any(fewer < count for fewer, count in zip(self._counts(without), self._counts(batch), strict=True))

    def _counts(self, batch: Batch) -> list[float]:
        """The number of predictions of each objective that applies, or the sum of their weights."""
        return [float(self.objective(name).count(own)) for name, own in self.prepare(batch).items()]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
