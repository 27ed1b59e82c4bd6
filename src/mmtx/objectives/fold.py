"""The places of residues, from pairs of them and attention in space."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.copies import Copy
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
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
from mmtx.structure.distances import NUM_BINS, distogram_loss
from mmtx.structure.fape import LENGTH, fape
from mmtx.structure.frames import Frames
from mmtx.structure.pair_stack import PairStack
from mmtx.structure.structure_module import StructureModule


class Fold(Objective):
    """A chain is folded: from hidden states of its residues and pairs of them, by triangle updates and invariant point
    attention, to the places of their Cα atoms (after Jumper et al. 2021, 10.1038/s41586-021-03819-2).

    Places are hidden from the backbone. The loss is the frame-aligned point error, averaged over the layers that move
    the frames, and the cross-entropy of distances in bins. Metrics are the RMSD after superposition, in Å, and lDDT.

    Args:
        name: of the set, a chain.
        pair_dim: width of a pair.
        pair_layers: of triangle updates.
        structure_layers: how often frames are moved, by the same weights.
        num_heads: of invariant point attention.
        distogram: weight of the cross-entropy of distances.
    """

    directions = DIRECTIONS

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        name: str,
        pair_dim: int,
        pair_layers: int,
        structure_layers: int,
        num_heads: int,
        distogram: float,
    ) -> None:
        super().__init__(weight=weight)
        least = {"pair_dim": (pair_dim, 1), "pair_layers": (pair_layers, 0), "num_heads": (num_heads, 1)}
        for key, (value, at_least) in {**least, "structure_layers": (structure_layers, 1)}.items():
            check_at_least(key, value, at_least)
        if distogram < 0:
            raise InvalidValue("distogram", distogram, "must be at least 0")
        self.has_pairs = chain_of(name, model).has_pairs
        self.name, self.reads, self.distogram = name, (name,), distogram
        dim = model.backbone.dim
        self.pairs = PairStack(dim, pair_dim, num_layers=pair_layers)
        self.structure = StructureModule(dim, pair_dim, num_layers=structure_layers, num_heads=num_heads)
        self.head = nn.Linear(pair_dim, NUM_BINS)

    def count(self, batch: Batch) -> Num[Tensor, ""]:
        """Chains."""
        return batch.present(self.name).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        layers, logits = self.folded(model, batch)
        loss = torch.where(batch.present(self.name), self._losses(layers, logits, batch), 0.0).sum()
        stats = {} if self.training else chain_sums(layers[-1].origin * LENGTH, batch, self.name)
        return Score(loss, self.count(batch), stats)

    def metrics(self, score: Score) -> dict[str, float]:
        return means_of(score)

    def folded(self, model: MultimodalTransformer, batch: Batch) -> tuple[list[Frames], Float[Tensor, "B n n bins"]]:
        """Frames after each layer, whose unit is 10 Å, and the logits of distances."""
        fields, lengths = batch[self.name], batch.lengths[self.name]
        hidden = Copy(self.name, {"values": torch.zeros_like(fields["values"])})
        x = model.run(model.tokenize(batch, copies={self.name: hidden})).tokens(self.name)
        known = x.new_zeros(*x.shape[:2], x.shape[1])
        if self.has_pairs:
            known = chain_of(self.name, model).pairs(fields, lengths).to(x.dtype)
        real = real_residues(batch, self.name)
        pairs = self.pairs(x, known, real)
        return self.structure(x, pairs, real), self.head(pairs + pairs.transpose(1, 2))

    def traces(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n 3"]:
        """Predicted places in Å."""
        return self.folded(model, batch)[0][-1].origin.float() * LENGTH

    columns: Mapping[str, Any] = COLUMNS

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        return chain_rows(self.traces(model, batch), batch, self.name)

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        return chain_examples(self.traces(model, batch), batch, self.name)

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Predicted chains over true ones."""
        draw_chains(self.traces(model, batch), batch[self.name]["values"], real_residues(batch, self.name), path)

    def _losses(self, layers: list[Frames], logits: Float[Tensor, "B n n bins"], batch: Batch) -> Float[Tensor, " B"]:
        true, real = batch[self.name]["values"], real_residues(batch, self.name)
        frames, framed = Frames.from_trace(true, real)
        scaled = [Frames(each.rotation.float(), each.origin.float() * LENGTH) for each in layers]
        errors = [fape(each, each.origin, frames, true, framed, real) for each in scaled]
        return torch.stack(errors).mean(0) + self.distogram * distogram_loss(logits, true, real)
