"""A reward model: one number for each text, more for what is preferred."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.pooling import LastPool
from mmtx.objectives.predictions import where
from mmtx.objectives.preference_pairs import PreferencePairs


class RewardModel(Objective):
    """The reward of a text is a linear map of the hidden state of its last real token; the loss of a pair is
    −log σ(r_chosen − r_rejected), after Bradley and Terry (Ouyang et al. 2022, arXiv 2203.02155, equation 1).

    Metrics are the share of pairs of which the preferred text has more (``accuracy``), and how much more (``margin``).

    Args:
        text: name of the set: what is preferred.
        rejected: name of the data with the other text of each sample.
    """

    directions = known("accuracy") | {"margin": "max"}
    column_kind = "text"
    columns: Mapping[str, Any] = {"predicted": float, "rejected": float}

    def __init__(
        self, *, specs: Mapping[str, Spec], model: MultimodalTransformer, weight: float, text: str, rejected: str
    ) -> None:
        super().__init__(weight=weight)
        self.pairs, self._last = PreferencePairs(specs, model, text, rejected), LastPool(name=text)
        self.labels, self.reads, self.text = (rejected,), (text,), text
        self.head = nn.Linear(model.backbone.dim, 1, bias=False)  # one for all texts would change no difference
        initialise(self.head, std=model.backbone.init_std)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self.pairs.present(batch).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        chosen, rejected = self._rewards(model, batch)
        present, margin = self.pairs.present(batch), chosen - rejected
        count = present.sum()
        of_each = {"accuracy": margin > 0, "margin": margin.detach()}
        stats = {name: ((value * present).sum(), count) for name, value in of_each.items()}
        return Score((-F.logsigmoid(margin) * present).sum(), count, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        found = [name for name in self.directions if name in score.stats]
        return {"loss": score.mean_loss()} | {name: score.ratio(name) for name in found}

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """The rewards of what is preferred and of the other."""
        columns = self.predictions(model, batch)
        return [
            Example("", "") if one is None else Example(f"{one:.3f}", f"above {other:.3f}", one > other)
            for one, other in zip(columns["predicted"], columns["rejected"], strict=True)
        ]

    @torch.no_grad()
    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The rewards of what is preferred and of the other."""
        present, (chosen, rejected) = self.pairs.present(batch).tolist(), self._rewards(model, batch)
        return {"predicted": where(present, chosen.tolist()), "rejected": where(present, rejected.tolist())}

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``reward`` of each text, ``(B,)``."""
        return {"reward": self._reward(model, batch)}

    def _rewards(self, model: MultimodalTransformer, batch: Batch) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        return self._reward(model, batch), self._reward(model, self.pairs.with_rejected(batch))

    def _reward(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, " B"]:
        return self.head(self._last(model(batch)))[:, 0].float()
