"""The head of objectives that predict the next id of a causal text."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, check_fraction
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.linear_cross_entropy import Predictions
from mmtx.objectives.base import required_name
from mmtx.objectives.id_head import IdHead
from mmtx.objectives.scratchpad import SCORED

PREDICTED = "predicted"
"""The field of a text that says which of its ids are predicted; without it, all but the first."""


class TextHead(IdHead):
    """Every token of a causal text predicts the one after it, given the true ones before (teacher forcing).

    A text of n + 1 ids gives n predictions: the set holds ids 0 to n - 1.

    Args:
        text: name whose tokens predict.
        label_smoothing: share of the target spread over all ids, in training (Szegedy et al. 2015).
        The others are those of `IdHead`.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        text: str,
        tied: bool,
        logit_scale: float,
        label_smoothing: float,
        softcap: float | None = None,
    ) -> None:
        required_name(text, model.names, "modality of the set", "text")
        tokenizer = model.tokenizer(text)
        if text in model.encoded:
            raise InvalidValue("text", text, "is sent through the encoder; a text to predict is decoded", "encode=[]")
        if not isinstance(tokenizer, Ids) or not tokenizer.causal:
            raise InvalidValue("text", text, "must name a causal text", f"set modality.{text}.causal=true")
        check_fraction("label_smoothing", label_smoothing)
        super().__init__(
            specs=specs,
            model=model,
            name=text,
            num_ids=tokenizer.vocab_size,
            tied=tied,
            logit_scale=logit_scale,
            softcap=softcap,
        )
        self.text, self.label_smoothing, self.context = text, label_smoothing, tokenizer.context

    @property
    def texts_end(self) -> bool:
        """Whether texts have an end id, rather than being windows of a stream."""
        return self.vocabulary is not None and self.vocabulary.end is not None

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """The number of predictions in the batch."""
        chosen, lengths = batch[self.text].get(PREDICTED), (batch.lengths[self.text] - 1).clamp(min=0)
        if chosen is None:
            return lengths.sum()
        return (chosen[:, 1:] & (torch.arange(chosen.shape[1] - 1, device=lengths.device) < lengths[:, None])).sum()

    def shift(self, batch: Batch) -> tuple[Batch, Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
        """The batch without each text's last id; the ids that follow; which of them are real, and to be predicted."""
        ids, full = batch[self.text]["ids"], batch.full.get(self.text, False)
        if ids.shape[1] < 2:  # no text has a next id; one token of padding stands for all
            ids, full = F.pad(ids, (0, 1)), False
        lengths = (batch.lengths[self.text] - 1).clamp(min=0)
        host_lengths = None if batch.host_lengths is None else (batch.host_lengths[self.text] - 1).clamp(min=0)
        fields = {key: value for key, value in batch[self.text].items() if key not in (PREDICTED, SCORED)}
        if "times" in fields:
            fields["times"] = fields["times"][:, : ids.shape[1] - 1]
        inputs = batch.with_name(self.text, {**fields, "ids": ids[:, :-1]}, lengths, full, host_lengths)
        real = torch.arange(ids.shape[1] - 1, device=ids.device)[None] < lengths[:, None]
        chosen = batch[self.text].get(PREDICTED)
        if chosen is not None and chosen.shape[1] > 1:
            real = real & chosen[:, 1:]
        return inputs, ids[:, 1:], real

    def loss(
        self,
        model: MultimodalTransformer,
        hidden: Float[Tensor, "B n D"],
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
    ) -> Predictions:
        """Cross-entropy, summed over real targets; in evaluation, also which of them have the best score."""
        smoothing = self.label_smoothing if self.training else 0.0
        options: dict[str, Any] = {"label_smoothing": smoothing, "find_right": not self.training}
        return self.cross_entropy(model, hidden, targets, real, **options)
