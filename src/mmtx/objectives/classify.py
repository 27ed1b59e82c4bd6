"""Classification of a whole sample."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_spec
from mmtx.objectives.pooling import Pool
from mmtx.objectives.predictions import TEXTS, where
from mmtx.tokens import HiddenStates


class Classify(Objective):
    """One class per sample, predicted from its pooled hidden states.

    Args:
        label: name of the data whose field ``class`` is predicted.
        pool: from tokens to one vector.
        pooler: a linear map and tanh before the head (as in BERT).
        label_smoothing: share of the target spread over all classes, in training (Szegedy et al. 2015).
        mixup: in training, each sample's tokens are mixed with another's, and so is its target (Zhang et al. 2017,
            arXiv 1710.09412); shares are drawn from Beta(mixup, mixup); 0: no. Mixing patches after their linear
            map is mixing pixels before it.
        dropout: before the head.
    """

    directions = known("accuracy")

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        label: str,
        pool: Pool,
        pooler: bool,
        label_smoothing: float,
        mixup: float,
        dropout: float,
    ) -> None:
        super().__init__(weight=weight)
        spec = required_spec(label, specs, "label")
        if "class" not in spec.fields or not spec.fields["class"].num_classes:
            raise InvalidValue("label", label, "has no field 'class' with num_classes")
        check_fraction("label_smoothing", label_smoothing)
        check_at_least("mixup", mixup, 0)
        ragged = [name for name in model.names if any(f.ragged for f in model.tokenizer(name).spec.fields.values())]
        if mixup and ragged:
            raise InvalidValue("mixup", mixup, f"mixes tokens place by place, and {ragged[0]} has unequal lengths", "0")
        if mixup and model.encoded:
            raise InvalidValue("mixup", mixup, f"would not mix {model.encoded[0]}, which is encoded", "0")
        pool.check(model)
        self.labels, self.reads = (label,), pool.names
        self.label, self.pool = label, pool
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.names, self.coded = spec.class_names, {"head.weight": label, "head.bias": label}
        dim = model.backbone.dim
        self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if pooler else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, spec.fields["class"].num_classes)
        for part in (self.pooler, self.head):
            initialise(part, std=model.backbone.init_std)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return batch.present(self.label).sum()

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """In training with `mixup`, the share of each sample in its mix is a field of the label."""
        if not (self.training and self.mixup):
            return batch
        return batch.with_values(self.label, share=self._shares(model, batch, generator))

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        target, present = batch[self.label]["class"], batch.present(self.label)
        share = batch[self.label].get("share")
        logits = self._classify(model(batch) if share is None else _mixed(model, batch, share))
        loss = self._loss(logits, target)
        if share is not None:
            loss = share * loss + (1 - share) * self._loss(logits, target.flip(0))
        right = (logits.argmax(-1) == target) & present
        count = present.sum()
        return Score((loss * present).sum(), count, {"accuracy": (right.sum(), count)})

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), "accuracy": score.ratio("accuracy")}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted = self.logits(model, batch).argmax(-1).tolist()
        truth, present = batch[self.label]["class"].tolist(), batch.present(self.label).tolist()
        return [
            Example(self._name(p), self._name(t), p == t) if labelled else Example(self._name(p), "")
            for p, t, labelled in zip(predicted, truth, present, strict=True)
        ]

    @property
    def columns(self) -> dict[str, Any]:
        return {**TEXTS, **dict.fromkeys(self._probabilities, float)}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The best class, the true one, and the probability of each."""
        probabilities = self.logits(model, batch).double().softmax(-1)
        truth = map(self._name, batch[self.label]["class"].tolist())
        return {
            "predicted": [self._name(best) for best in probabilities.argmax(-1).tolist()],
            "truth": where(batch.present(self.label).tolist(), truth),
            **dict(zip(self._probabilities, probabilities.T.tolist(), strict=True)),
        }

    @property
    def _probabilities(self) -> list[str]:
        return [f"probability/{self._name(index)}" for index in range(self.head.out_features)]

    def logits(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B classes"]:
        """Scores of the classes."""
        return self._classify(model(batch))

    def _classify(self, states: HiddenStates) -> Float[Tensor, "B classes"]:
        return self.head(self.dropout(self.pooled(states)))

    def pooled(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        """The input of the head."""
        return self.pooler(self.pool(states))

    def _loss(self, logits: Float[Tensor, "B classes"], target: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)

    def _shares(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Float[Tensor, " B"]:
        """The weight of each sample in its mix with its partner, the sample as far from the other end of the batch: 1
        where one of the two has no label, or lacks a name that the other has."""
        present = batch.present(self.label)
        mixed = present & present.flip(0)
        for name in (name for name in model.names if name in batch):
            mixed = mixed & (batch.present(name) == batch.present(name).flip(0))
        concentration = torch.full((*present.shape, 2), self.mixup, device=present.device)
        share = torch._sample_dirichlet(concentration, generator=generator)[:, 0]  # torch's Beta takes no generator
        return torch.where(mixed, share, 1.0)

    def _name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)


def _mixed(model: MultimodalTransformer, batch: Batch, share: Float[Tensor, " B"]) -> HiddenStates:
    """Hidden states of tokens whose content is mixed with that of the sample's partner."""
    token_set = model.tokenize(batch)
    weight = share[:, None, None].to(token_set.content.dtype)
    return model.run(token_set.with_content(weight * token_set.content + (1 - weight) * token_set.content.flip(0)))
