"""LeJEPA: views of a sample agree, and their vectors are kept from collapsing by their distribution alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import check_at_least, check_within
from mmtx.kept import keep, most_kept
from mmtx.metric_directions import Directions
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.block_masks import DrawnBlocks, Grid, check_range, num_content
from mmtx.objectives.epps_pulley import epps_pulley, random_directions
from mmtx.objectives.masked_autoencoder import check_names, content_lengths, numbers_of
from mmtx.objectives.pooling import MeanPool


class LeJEPA(Objective):
    """Each view of a sample predicts the mean of its views, and the vectors of each view, over the samples of a batch,
    are normally distributed (Balestriero and LeCun 2025, arXiv 2511.08544). It has no teacher, and no predictor.

    A view is a block of the tokens of each name; other names of the set stay whole. The mean of its hidden states,
    through two linear maps, is its vector. The loss is ``(1 - strength) · distance + strength · statistic``.

    Metrics: ``distance``, the mean squared difference of a view's features from the mean of its sample's views;
    ``statistic``, of Epps and Pulley, over random directions: some 1.1 where vectors are normally distributed, and N
    times 0.3 or more where all of N samples are the same. Its N are the samples of a micro-batch, which accumulation
    does not enlarge.

    Args:
        names: of the backbone's set, whose tokens are made from numbers of their own.
        num_views: of each sample.
        view_share: of a sample's tokens in a view, least and most.
        view_aspect: height over width of a view, least and most.
        strength: of the statistic in the loss.
        num_directions: along which the statistic is computed; others in each step, the same in evaluations.
        hidden: features between the two maps.
        size: of the vectors.
    """

    directions: Directions = {"distance": None, "statistic": None}
    roles = {"out.weight": "head"}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        names: Sequence[str],
        num_views: int,
        view_share: list[float],
        view_aspect: list[float],
        strength: float,
        num_directions: int,
        hidden: int,
        size: int,
    ) -> None:
        super().__init__(weight=weight)
        check_names(names)
        for key, count, least in (
            ("num_views", num_views, 2),
            ("num_directions", num_directions, 1),
            ("hidden", hidden, 1),
            ("size", size, 1),
        ):
            check_at_least(key, count, least)
        check_within("strength", strength, 0, 1)
        for name in names:
            numbers_of(name, model)
        self.reads = tuple(model.decoded)
        self.names, self.num_views, self.strength, self.num_directions = (
            tuple(names),
            num_views,
            strength,
            num_directions,
        )
        self.view = DrawnBlocks(
            check_range("view_share", view_share, most=1.0), check_range("view_aspect", view_aspect)
        )
        self.pool, self.up, self.out = MeanPool(), nn.Linear(model.backbone.dim, hidden), nn.Linear(hidden, size)
        for part in (self.up, self.out):
            initialise(part, std=model.backbone.init_std)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with a field more of each name: which of its tokens each of the ``views`` has."""
        for name in (name for name in self.names if name in batch):
            tokenizer, lengths = model.tokenizer(name), content_lengths(model.tokenizer(name), batch, name)
            grid = Grid.of(tokenizer, num_content(tokenizer, batch, name), lengths.device)
            views = self.view.drawn(grid, grid.sizes(lengths), self.num_views, generator)
            real = torch.arange(grid.places.shape[0], device=lengths.device) < lengths[:, None]
            batch = batch.with_values(name, views=views & real[:, None])
        return batch

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Samples that have one of the names."""
        return self._present(batch).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        vectors, present = self.vectors(model, batch), self._present(batch)
        generator = None if self.training else torch.Generator(vectors.device).manual_seed(0)
        directions = random_directions(vectors.shape[2], self.num_directions, generator, vectors)
        with torch.autocast(vectors.device.type, enabled=False):  # products in half precision would move the statistic
            statistic = epps_pulley(vectors @ directions, present).mean()
        count, distance = present.sum(), (self._distances(vectors) * present).sum()
        loss = (1 - self.strength) * distance + self.strength * statistic * count
        stats = {"distance": (distance, count), "statistic": (statistic * count, count)}
        return Score(loss, count, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        return {"loss": score.mean_loss(), **{name: score.ratio(name) for name in self.directions}}

    def vectors(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "views B size"]:
        """Of each view of each sample, of a batch as `prepare` makes it."""
        whole, found = model.tokenize(batch), []
        for index in range(self.num_views):
            view = {name: batch[name]["views"][:, index] for name in self.names}
            most = {name: most_kept(mask) for name, mask in view.items()}
            kept = keep(whole, {name: ~mask for name, mask in view.items()}, most, ragged=True)
            found.append(self.out(F.gelu(self.up(self.pool(model.run(kept.token_set))))))
        return torch.stack(found).float()

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """How far the views of each sample are from their mean."""
        device = batch.lengths[self.names[0]].device
        prepared = self.prepare(model, batch, torch.Generator(device).manual_seed(0))
        distances = self.predictions(model, prepared)["distance"]
        return [Example("" if each is None else f"distance {each:.3g}", "") for each in distances]

    columns: Mapping[str, Any] = {"distance": float}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """How far the views of each sample are from their mean."""
        with torch.no_grad():
            distances = self._distances(self.vectors(model, batch)).tolist()
        return {
            "distance": [
                d if there else None for d, there in zip(distances, self._present(batch).tolist(), strict=True)
            ]
        }

    def _distances(self, vectors: Float[Tensor, "views B size"]) -> Float[Tensor, " B"]:
        return (vectors - vectors.mean(0)).square().mean((0, 2))

    def _present(self, batch: Batch) -> Bool[Tensor, " B"]:
        return torch.stack([batch.present(name) for name in self.names]).any(0)
