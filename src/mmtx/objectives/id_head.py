"""The head of objectives that predict ids of a name of the set."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec, Vocabulary
from mmtx.codes.decodes import Decodes
from mmtx.errors import InvalidValue
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.nn.linear_cross_entropy import IGNORED, Predictions, linear_cross_entropy, linear_scores
from mmtx.objectives.base import required_spec


class IdHead(nn.Module):
    """Scores of the ids of a name, from the hidden states of its tokens.

    Args:
        specs: what the data declares.
        model: whose set has the name.
        name: whose ids are scored.
        num_ids: ids are those below it.
        tied: score ids by the name's own embedding instead of a linear map of its own.
        logit_scale: multiplies all scores (T5's tied head: ``dim ** -0.5``).
        softcap: scores s become ``softcap · tanh(s / softcap)`` (Gemma 2, arXiv 2408.00118); None: as they are.
        never: an id whose score is -inf; None: none, but the mark that begins a sample in codes.
    """

    roles = {"projection.weight": "head"}
    bias: Tensor | None

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        name: str,
        num_ids: int,
        tied: bool,
        logit_scale: float,
        softcap: float | None = None,
        never: int | None = None,
    ) -> None:
        super().__init__()
        if softcap is not None and softcap <= 0:
            raise InvalidValue("softcap", softcap, "must be above 0")
        self.name, self.vocab_size, self.softcap = name, num_ids, softcap
        self.logit_scale = logit_scale / model.backbone.width_ratio if tied else logit_scale
        self.vocabulary: Vocabulary | None = required_spec(name, specs, "text").vocabulary
        self.projection = None if tied else nn.Linear(model.backbone.dim, num_ids, bias=False)
        if self.projection is not None:
            initialise(self.projection, std=model.backbone.init_std)
        if never is None and isinstance(self.vocabulary, Decodes):
            never = self.vocabulary.begin
        bias = None if never is None else torch.zeros(num_ids).index_fill(0, torch.tensor(never), float("-inf"))
        self.register_buffer("bias", bias, persistent=False)

    def logits(self, model: MultimodalTransformer, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of all ids."""
        return linear_scores(self._scaled(hidden), self._weight(model), self.bias, self.softcap)

    def cross_entropy(
        self,
        model: MultimodalTransformer,
        hidden: Float[Tensor, "B n D"],
        targets: Int[Tensor, "B n"],
        real: Bool[Tensor, "B n"],
        *,
        weights: Float[Tensor, "B n"] | None = None,
        label_smoothing: float = 0.0,
        find_right: bool = False,
    ) -> Predictions:
        """Summed over real targets, times their weights; where it is wanted, also which have the best score."""
        return linear_cross_entropy(
            self._scaled(hidden),
            self._weight(model),
            self.bias,
            targets.masked_fill(~real, IGNORED),
            weights=weights,
            label_smoothing=label_smoothing,
            softcap=self.softcap,
            find_right=find_right,
            compile=model.backbone.is_compiled,
        )

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        """The name's own, where they score ids."""
        if self.projection is not None:
            return None
        tokenizer = model.tokenizer(self.name)
        assert isinstance(tokenizer, Ids)
        return tokenizer.id_vectors

    def decode(self, ids: list[int]) -> str:
        """Ids as text; as numbers where there is no vocabulary."""
        return self.vocabulary.decode(ids) if self.vocabulary else " ".join(map(str, ids))

    def _scaled(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return hidden if self.logit_scale == 1 else hidden * self.logit_scale

    def _weight(self, model: MultimodalTransformer) -> Float[Tensor, "V D"]:
        tied = self.tied_vectors(model)
        if tied is not None:
            return tied
        assert self.projection is not None
        return self.projection.weight
