"""The places of residues, out of noise by a flow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.decoding.flow import Integration
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Score
from mmtx.objectives.chain_metrics import (
    COLUMNS,
    DIRECTIONS,
    chain_examples,
    chain_of,
    chain_rows,
    chain_sums,
    means_of,
    real_residues,
)
from mmtx.objectives.chain_plot import draw_chains
from mmtx.objectives.flow import Flow
from mmtx.objectives.flow_numbers import Times


class FoldByFlow(Flow):
    """A chain is folded by plain attention: places of residues are made out of noise, given what each residue is and
    which touch, by a model that knows nothing of geometry and learns it from chains that are turned at random (after
    SimpleFold, Wang et al. 2025, arXiv 2509.18480).

    The loss is that of `Flow`; metrics are those of `Fold`, of one chain that is made for each.

    Args:
        name: of the set, a chain.
        times: of training, see `Flow`.
        num_steps: of Heun's method, by which an evaluation makes chains.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        name: str,
        times: Times,
        num_steps: int,
    ) -> None:
        chain_of(name, model)
        super().__init__(specs=specs, model=model, weight=weight, names=[name], times=times, likelihood_steps=None)
        self.name, self.how, self.directions = name, Integration(num_steps), DIRECTIONS

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        score = super().forward(model, batch)
        if self.training:
            return score
        return Score(score.loss_sum, score.count, chain_sums(self.traces(model, batch), batch, self.name))

    def metrics(self, score: Score) -> dict[str, float]:
        return means_of(score)

    def traces(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n 3"]:
        """Places that are made in Å, the same whenever they are."""
        ids = batch.lengths[self.name].tolist() if batch.ids is None else batch.ids.tolist()
        draws = [torch.Generator().manual_seed(max(number, 0)) for number in ids]
        made = self.made(model, batch, draws, self.how)[self.name]
        return self.head(self.name).fields_of(made)["values"].float()

    @property
    def columns(self) -> dict[str, Any]:
        return {**COLUMNS}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        return chain_rows(self.traces(model, batch), batch, self.name)

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        return chain_examples(self.traces(model, batch), batch, self.name)

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Chains that are made, over true ones."""
        draw_chains(self.traces(model, batch), batch[self.name]["values"], real_residues(batch, self.name), path)
