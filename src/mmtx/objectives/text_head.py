"""The head of objectives that predict the next id of a causal text."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec, Vocabulary
from mmtx.errors import InvalidValue, check_fraction
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.nn.linear_cross_entropy import IGNORED, Predictions, linear_cross_entropy, linear_scores
from mmtx.objectives.base import required_name, required_spec
from mmtx.objectives.scratchpad import SCORED

PREDICTED = "predicted"
"""The field of a text that says which of its ids are predicted; without it, all but the first."""


class TextHead(nn.Module):
    """Every token of a causal text predicts the one after it, given the true ones before (teacher forcing).

    A text of n + 1 ids gives n predictions: the set holds ids 0 to n - 1.

    Args:
        specs: what the data declares.
        model: whose set holds the text.
        text: name whose tokens predict.
        tied: score ids by the text's own embedding instead of a linear map of its own.
        logit_scale: multiplies all scores (T5's tied head: ``dim ** -0.5``).
        label_smoothing: share of the target spread over all ids, in training (Szegedy et al. 2015).
        softcap: scores s become ``softcap · tanh(s / softcap)`` (Gemma 2, arXiv 2408.00118); None: as they are.
    """

    roles = {"projection.weight": "head"}

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
        super().__init__()
        required_name(text, model.names, "modality of the set", "text")
        tokenizer = model.tokenizer(text)
        if text in model.encoded:
            raise InvalidValue("text", text, "is sent through the encoder; a text to predict is decoded", "encode=[]")
        if not isinstance(tokenizer, Ids) or not tokenizer.causal:
            raise InvalidValue("text", text, "must name a causal text", f"set modality.{text}.causal=true")
        check_fraction("label_smoothing", label_smoothing)
        if softcap is not None and softcap <= 0:
            raise InvalidValue("softcap", softcap, "must be above 0")
        self.text, self.label_smoothing, self.softcap = text, label_smoothing, softcap
        self.logit_scale = logit_scale / model.backbone.width_ratio if tied else logit_scale
        self.vocabulary: Vocabulary | None = required_spec(text, specs, "text").vocabulary
        self.vocab_size, self.context = tokenizer.vocab_size, tokenizer.context
        self.projection = None if tied else nn.Linear(model.backbone.dim, tokenizer.vocab_size, bias=False)
        if self.projection is not None:
            initialise(self.projection, std=model.backbone.init_std)

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
        inputs = batch.with_name(self.text, {**fields, "ids": ids[:, :-1]}, lengths, full, host_lengths)
        real = torch.arange(ids.shape[1] - 1, device=ids.device)[None] < lengths[:, None]
        chosen = batch[self.text].get(PREDICTED)
        if chosen is not None and chosen.shape[1] > 1:
            real = real & chosen[:, 1:]
        return inputs, ids[:, 1:], real

    def logits(self, model: MultimodalTransformer, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next id."""
        return linear_scores(self._scaled(hidden), self._weight(model), None, self.softcap)

    def loss(
        self,
        model: MultimodalTransformer,
        hidden: Float[Tensor, "B n D"],
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
    ) -> Predictions:
        """Cross-entropy, summed over real targets; in evaluation, also which of them have the best score."""
        return linear_cross_entropy(
            self._scaled(hidden),
            self._weight(model),
            None,
            targets.masked_fill(~real, IGNORED),
            label_smoothing=self.label_smoothing if self.training else 0.0,
            softcap=self.softcap,
            find_right=not self.training,
            compile=model.backbone.is_compiled,
        )

    def _scaled(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return hidden if self.logit_scale == 1 else hidden * self.logit_scale

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        """The text's own, where they score ids."""
        if self.projection is not None:
            return None
        tokenizer = model.tokenizer(self.text)
        assert isinstance(tokenizer, Ids)
        return tokenizer.id_vectors

    def _weight(self, model: MultimodalTransformer) -> Float[Tensor, "V D"]:
        tied = self.tied_vectors(model)
        if tied is not None:
            return tied
        assert self.projection is not None
        return self.projection.weight

    def decode(self, ids: list[int]) -> str:
        """Ids as text; as numbers where there is no vocabulary."""
        return self.vocabulary.decode(ids) if self.vocabulary else " ".join(map(str, ids))
