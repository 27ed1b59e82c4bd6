"""Classification of a whole sample."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_spec
from mmtx.objectives.class_targets import class_target
from mmtx.objectives.class_weights import balanced_weights, given_weights
from mmtx.objectives.pooling import Pool
from mmtx.objectives.predictions import where
from mmtx.objectives.slices import Slices
from mmtx.tokens import HiddenStates


class Classify(Objective):
    """The class of a sample, or all of its labels, predicted from its pooled hidden states.

    Args:
        label: name of the data whose field is predicted: ``class``, one for each sample, or ``labels``, a
            bool for each class.
        pool: from tokens to one vector.
        pooler: a linear map and tanh before the head (as in BERT); or ``pooler(dim)`` makes another module, such as a
            `Transform` (ModernBERT), or a linear map to another width (wav2vec 2.0).
        label_smoothing: share of the target spread over all classes, in training (Szegedy et al. 2015).
        mixup: in training, each sample's tokens are mixed with another's, and so is its target (Zhang et al. 2017,
            arXiv 1710.09412); shares are drawn from Beta(mixup, mixup); 0: no. Mixing patches after their linear
            map is mixing pixels before it.
        dropout: before the head.
        class_weights: what each class counts for in the loss, the sum of w * loss over that of w, as torch has it;
            ``{class: w}``, 1 for the others; balanced: inversely proportional to how often classes occur in training;
            null: all alike.
        slices: names of the data with classes, for each of which the metrics are given as well.
    """

    column_kind = "classes"

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        label: str,
        pool: Pool,
        pooler: bool | Callable[[int], nn.Module],
        label_smoothing: float,
        mixup: float,
        dropout: float,
        class_weights: Literal["balanced"] | dict[Any, Any] | None,
        slices: list[str],
    ) -> None:
        super().__init__(weight=weight)
        spec = required_spec(label, specs, "label")
        self.target, self.names = class_target(label, spec), class_names(spec)
        check_fraction("label_smoothing", label_smoothing)
        _check_mixup(mixup, model)
        pool.check(model)
        self.labels, self.reads = (label,), pool.names
        self.label, self.pool = label, pool
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.slices, self.slice_names = Slices(slices, specs), tuple(slices)
        self.directions = self.slices.directions({**self.target.directions, **type(self).directions})
        self.coded = {"head.weight": label, "head.bias": label}
        weights, is_fitted = _initial_weights(class_weights, self.names), class_weights == "balanced"
        self.fitted_names = (label,) if is_fitted else ()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=is_fitted)  # otherwise the config has them
        dim = pool.width(model.backbone.dim)
        self.pooler = _made_pooler(pooler, dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(getattr(self.pooler, "out_features", dim), len(self.names))
        for part in (self.pooler, self.head):
            initialise(part, std=model.backbone.init_std)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Balances the weights of classes by how often these occur."""
        members = torch.zeros(len(self.names), dtype=torch.long)
        for batch in batches:
            members += self.target.members(self._truth(batch)[batch.present(self.label)]).cpu()
        assert self.class_weights is not None
        self.class_weights.copy_(balanced_weights(members))

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        return (self._weights(batch) * batch.present(self.label)).sum()

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """In training with `mixup`, the share of each sample in its mix is a field of the label."""
        if not (self.training and self.mixup):
            return batch
        return batch.with_values(self.label, share=self._shares(model, batch, generator))

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        truth, real = self._truth(batch), batch.present(self.label)
        share = batch[self.label].get("share")
        logits = self._classify(model(batch) if share is None else _mixed(model, batch, share))
        loss = self._loss(logits, truth)
        if share is not None:
            loss = share * loss + (1 - share) * self._loss(logits, truth.flip(0))
        stats = self.slices.sums(batch, self.target.sums(logits, truth, real), real, training=self.training)
        rows = {} if self.training else self.target.rows(logits, truth, real)
        rows |= self.slices.rows(batch) if rows else {}
        return Score((loss * real).sum(), self.count(batch), stats, rows)

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), **self.slices.metrics(score, self.target.metrics)}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        predicted, truth = self.target.chosen(self.logits(model, batch)), self._truth(batch)
        right = (predicted == truth).flatten(1).all(1) if truth.dim() > 1 else predicted == truth
        texts = zip(self._written(predicted), self._written(truth), right.tolist(), strict=True)
        return [
            Example(p, t, own) if labelled else Example(p, "")
            for labelled, (p, t, own) in zip(batch.present(self.label).tolist(), texts, strict=True)
        ]

    @property
    def columns(self) -> dict[str, Any]:
        kind = self.target.column
        return {"predicted": kind, "truth": kind, **dict.fromkeys(self._probabilities, float)}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The best class, or all that are likelier than not; the true ones; and the probability of each."""
        logits, target = self.logits(model, batch), self.target
        predicted, truth = target.named(target.chosen(logits), self.names), target.named(self._truth(batch), self.names)
        probabilities = target.probabilities(logits.double()).T.tolist()
        return {
            "predicted": predicted,
            "truth": where(batch.present(self.label).tolist(), truth),
            **dict(zip(self._probabilities, probabilities, strict=True)),
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """Of each sample, ``logits`` and ``probabilities`` of the classes, ``(B, classes)``."""
        logits = self.logits(model, batch).float()
        return {"logits": logits, "probabilities": self.target.probabilities(logits)}

    @property
    def _probabilities(self) -> list[str]:
        return [f"probability/{name}" for name in self.names]

    def logits(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B classes"]:
        """Scores of the classes."""
        return self._classify(model(batch))

    def _classify(self, states: HiddenStates) -> Float[Tensor, "B classes"]:
        return self.head(self.dropout(self.pooled(states)))

    def pooled(self, states: HiddenStates) -> Float[Tensor, "B pooled"]:
        """The input of the head."""
        return self.pooler(self.pool(states))

    def _truth(self, batch: Batch) -> Shaped[Tensor, "B *classes"]:
        return batch[self.label][self.target.field]

    def _weights(self, batch: Batch) -> Num[Tensor, " B"]:
        """What each sample counts for, if it is labelled."""
        return self.target.weights(self._truth(batch), self.class_weights)

    def _loss(self, logits: Float[Tensor, "B classes"], truth: Shaped[Tensor, "B *classes"]) -> Float[Tensor, " B"]:
        smoothing = self.label_smoothing if self.training else 0.0
        return self.target.loss(logits, truth, smoothing, self.class_weights)

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

    def _written(self, values: Shaped[Tensor, "B *classes"]) -> list[str]:
        named = self.target.named(values, self.names)
        return [own if isinstance(own, str) else ", ".join(own) or "none" for own in named]


def _made_pooler(pooler: bool | Callable[[int], nn.Module], dim: int) -> nn.Module:
    if callable(pooler):
        return pooler(dim)
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if pooler else nn.Identity()


def class_names(spec: Spec) -> tuple[str, ...]:
    """Of a name with a field ``class`` or ``labels``; their codes where they have no names."""
    count = next(field.num_classes for key, field in spec.fields.items() if key in ("class", "labels"))
    return spec.class_names or tuple(map(str, range(count or 0)))


def _initial_weights(
    given: Literal["balanced"] | dict[Any, Any] | None, names: tuple[str, ...]
) -> Float[Tensor, " classes"] | None:
    """Those of the config; all alike until they are balanced."""
    return None if given is None else given_weights({} if given == "balanced" else given, names)


def _check_mixup(mixup: float, model: MultimodalTransformer) -> None:
    check_at_least("mixup", mixup, 0)
    ragged = [name for name in model.names if any(f.ragged for f in model.tokenizer(name).spec.fields.values())]
    if mixup and ragged:
        raise InvalidValue("mixup", mixup, f"mixes tokens place by place, and {ragged[0]} has unequal lengths", "0")
    if mixup and model.encoded:
        raise InvalidValue("mixup", mixup, f"would not mix {model.encoded[0]}, which is encoded", "0")


def _mixed(model: MultimodalTransformer, batch: Batch, share: Float[Tensor, " B"]) -> HiddenStates:
    """Hidden states of tokens whose content is mixed with that of the sample's partner."""
    token_set = model.tokenize(batch)
    weight = share[:, None, None].to(token_set.content.dtype)
    return model.run(token_set.with_content(weight * token_set.content + (1 - weight) * token_set.content.flip(0)))
