"""Preferences: of two texts of each sample the preferred one becomes more probable than it was at the start."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.log_probabilities import log_probabilities, reference_log_probabilities
from mmtx.objectives.predictions import where
from mmtx.objectives.preference_losses import PreferenceLoss
from mmtx.objectives.preference_pairs import PreferencePairs
from mmtx.objectives.text_head import TextHead


class _Gains(NamedTuple):
    """log π/π_ref of the two texts of each sample; and which samples have both."""

    chosen: Float[Tensor, " B"]
    rejected: Float[Tensor, " B"]
    present: Bool[Tensor, " B"]

    @property
    def difference(self) -> Float[Tensor, " B"]:
        return self.chosen - self.rejected


class Preference(Objective):
    """Direct learning from preferences, without a reward model: a policy π whose log π/π_ref is as a reward would be
    under which such pairs are preferred. π_ref is the model at the start of the run. Nothing is drawn.

    What is scored are the ids that are predicted of a text, given the rest of the set: after a prompt, its answer.
    Scores are those of a head that is tied to the text's embedding, so that the reference has it too.

    Metrics are the share of pairs in which the preferred text has gained more (``accuracy``); by how much, times β
    (``margin``); β log π/π_ref of either (``chosen_reward``, ``rejected_reward``); and ``kl``, the mean of log π_ref/π
    of both, which is KL(π_ref ‖ π) where the texts were drawn from the reference.

    Args:
        text: name of the set that is written: what is preferred.
        rejected: name of the data with the other text of each sample.
        loss: of each pair.
        length_norm: means over the ids of a text in the place of sums, so that longer texts gain no more for it.
        logit_scale: multiplies all scores, as in `TextHead`.
        softcap: likewise.
    """

    uses_reference = True
    directions = known("accuracy") | {"margin": "max", "chosen_reward": None, "rejected_reward": None, "kl": None}
    column_kind = "text"
    columns: Mapping[str, Any] = {"predicted": str, "truth": str, "margin": float}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        text: str,
        rejected: str,
        loss: PreferenceLoss,
        length_norm: bool,
        logit_scale: float,
        softcap: float | None,
    ) -> None:
        super().__init__(weight=weight)
        keys: dict[str, Any] = {"tied": True, "logit_scale": logit_scale, "softcap": softcap, "label_smoothing": 0.0}
        self.head = TextHead(specs=specs, model=model, text=text, **keys)
        self.pairs = PreferencePairs(specs, model, text, rejected)
        self.labels, self.reads = (rejected,), (text,)
        self.text, self.rejected, self.loss, self.length_norm = text, rejected, loss, length_norm

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self.pairs.present(batch).sum()

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        return self.head.tied_vectors(model)

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        gains = self._gains(model, batch)
        present, count = gains.present, gains.present.sum()
        beta, both = self.loss.beta, gains.chosen + gains.rejected
        of_each = {
            "accuracy": gains.difference > 0,
            "margin": beta * gains.difference,
            "chosen_reward": beta * gains.chosen,
            "rejected_reward": beta * gains.rejected,
            "kl": -both / 2,
        }
        stats = {name: ((value.detach() * present).sum(), count) for name, value in of_each.items()}
        return Score((self.loss(gains.difference) * present).sum(), count, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        found = [name for name in self.directions if name in score.stats]
        return {"loss": score.mean_loss()} | {name: score.ratio(name) for name in found}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """Of each pair the text that has gained more, and the one that is preferred."""
        columns = self.predictions(model, batch)
        rows = zip(columns["predicted"], columns["truth"], columns["margin"], strict=True)
        return [
            Example("", "") if margin is None else Example(predicted, truth, margin > 0)
            for predicted, truth, margin in rows
        ]

    @torch.no_grad()
    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """Of each pair the text that has gained more, the one that is preferred, and the margin between them."""
        gains = self._gains(model, batch)
        present, margins = gains.present.tolist(), (self.loss.beta * gains.difference).tolist()
        chosen, rejected = (self._texts(batch, name) for name in (self.text, self.rejected))
        gained = [one if margin > 0 else other for one, other, margin in zip(chosen, rejected, margins, strict=True)]
        return {
            "predicted": where(present, gained),
            "truth": where(present, chosen),
            "margin": where(present, margins),
        }

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of the id that follows each id of the text, ``(B, n, ids)``."""
        return {"logits": self.head.logits(model, model(batch).tokens(self.text)).float()}

    def _gains(self, model: MultimodalTransformer, batch: Batch) -> _Gains:
        chosen, rejected = self._gain(model, batch), self._gain(model, self.pairs.with_rejected(batch))
        return _Gains(chosen, rejected, self.pairs.present(batch))

    def _gain(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, " B"]:
        own, real = log_probabilities(model, self.head, batch)
        gain = (own - reference_log_probabilities(self.reference, self.head, batch)).sum(1)
        return gain / real.sum(1).clamp(min=1) if self.length_norm else gain

    def _texts(self, batch: Batch, name: str) -> list[str]:
        rows = zip(batch[name]["ids"].tolist(), batch.lengths[name].tolist(), strict=True)
        return [self.head.decode(ids[:length]) for ids, length in rows]
