"""Contrastive learning of two names, as CLIP."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.model import MultimodalTransformer
from mmtx.nn.init import initialise
from mmtx.objectives.base import Example, Objective, Score, required_name, required_spec
from mmtx.objectives.pair_losses import MAX_SCALE, PairLoss, SoftmaxLoss
from mmtx.objectives.pooling import MeanPool, Pool
from mmtx.objectives.predictions import where

RANKS = (1, 5)


class Contrastive(Objective):
    """Each name of a sample retrieves the other among the samples of a batch (CLIP: Radford et al. 2021, arXiv
    2103.00020, figure 3).

    The backbone runs each of the two names as a set of its own, or two towers run one each, so neither attends to the
    other; what is pooled of its tokens, through a linear map, is its vector. The loss is the cross-entropy of
    retrieving the second from the first and the first from the second, half each, by cosine similarity over a learned
    temperature. Only samples that have both names take part. Negatives are those of the same micro-batch, which
    accumulation does not enlarge.

    Metrics: ``recall@1`` and ``recall@5``, the share of samples whose counterpart is the nearest one, or among the
    nearest five, **of the evaluation batch** (``loader.eval_batch_size`` candidates; the last may have fewer), for both
    directions and as their mean.

    Args:
        first: a name of the set.
        second: the other one.
        label: name of the data whose field ``class`` is equal for samples that match as well: they are no negatives of
            one another, and retrieving any of them is right; None: only the two names of one sample match.
        size: of the vectors.
        temperature: initial.
        first_pool: from the tokens of the first to one vector; None: their mean.
        second_pool: of the second.
        loss: of the cosines; None: softmax, as CLIP.
        projected: names whose vector is pooled tokens through a linear map, of the others it is as wide as they are;
            None: both.
        projection_bias: whether these maps have a bias.
    """

    roles = {"projections.*.weight": "head", "log_scale": "gain"}

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        first: str,
        second: str,
        label: str | None,
        size: int,
        temperature: float,
        first_pool: Pool | None = None,  # absent in stored configs of earlier versions
        second_pool: Pool | None = None,
        loss: PairLoss | None = None,
        projected: list[str] | None = None,
        projection_bias: bool = False,
    ) -> None:
        super().__init__(weight=weight)
        for key, name in (("first", first), ("second", second)):
            required_name(name, model.names, "modality of the set", key)
            if name in model.encoded and not model.towers:
                raise InvalidValue(key, name, "is sent through the encoder; both must be in one stack", "encode=[]")
        if first == second:
            raise InvalidValue("second", second, "is the first, too; name another")
        others = [name for name in model.names if name not in (first, second)]
        if others:
            problem = f"and {second} are run alone, without {others[0]}; take it out of the set"
            raise InvalidValue("first", first, problem)
        if label is not None and "class" not in required_spec(label, specs, "label").fields:
            raise InvalidValue("label", label, "has no field 'class'")
        if size < 1:
            raise InvalidValue("size", size, "must be at least 1", "1")
        if not 1 / MAX_SCALE <= temperature <= 1:
            raise InvalidValue("temperature", temperature, f"must lie in [{1 / MAX_SCALE:g}, 1]")
        self.first, self.second, self.label = first, second, label
        self.labels, self.reads = (label,) if label is not None else (), (first, second)
        self.names = specs[label].class_names if label is not None else None
        recalls = known(*(f"recall@{rank}" for rank in RANKS))
        ways = (f"{self.first}_to_{self.second}", self._back)
        self.directions = recalls | {f"{way}/{name}": better for way in ways for name, better in recalls.items()}
        self.first_pool, self.second_pool, self.loss = (
            first_pool or MeanPool(),
            second_pool or MeanPool(),
            loss or SoftmaxLoss(),
        )
        for pool in self.pools.values():
            pool.check(model)
        widths = {name: pool.width(model.stack_of(name).dim) for name, pool in self.pools.items()}
        linear = self.pair if projected is None else projected
        unknown = [name for name in linear if name not in self.pair]
        unequal = [name for name in self.pair if name not in linear and widths[name] != size]
        if unknown or unequal:
            problem = f"names {unknown[0]}" if unknown else f"leaves {unequal[0]} {widths[unequal[0]]} wide, not {size}"
            raise InvalidValue("projected", projected, problem, f"some of {list(self.pair)}")
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(widths[name], size, bias=projection_bias) if name in linear else nn.Identity()
                for name in self.pair
            }
        )
        self.log_scale = nn.Parameter(torch.tensor([math.log(1 / temperature)]))  # FSDP shards no scalars
        initialise(self.projections, std=model.backbone.init_std)

    @property
    def pools(self) -> dict[str, Pool]:
        return {self.first: self.first_pool, self.second: self.second_pool}

    @property
    def pair(self) -> tuple[str, str]:
        return self.first, self.second

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        return self._both(batch).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        similarities, both, count = self.similarities(model, batch), self._both(batch), self.count(batch)
        alike = self._alike(batch)
        loss = self.loss(similarities, self.log_scale, both, alike)
        if self.training:
            return Score(loss, count)
        stats = {}
        for direction, rows in ((f"{self.first}_to_{self.second}", similarities), (self._back, similarities.T)):
            found = _found(rows, both[None].expand_as(rows), alike)
            for rank, right in zip(RANKS, found, strict=True):
                stats[f"{direction}/recall@{rank}"] = ((right & both).sum(), count)
        return Score(loss, count, stats)

    def metrics(self, score: Score) -> dict[str, float]:
        metrics = {"loss": score.mean_loss(), **{name: score.ratio(name) for name in score.stats}}
        for rank in RANKS:
            found = [value for name, value in metrics.items() if name.endswith(f"/recall@{rank}")]
            metrics |= {f"recall@{rank}": sum(found) / len(found)} if found else {}
        return metrics

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """For each first, the nearest second of the batch, by its class or its index in the batch."""
        both, alike = self._both(batch), self._alike(batch)
        nearest = self.similarities(model, batch).masked_fill(~both[None], -2.0).argmax(1).tolist()
        return [
            Example(self._name(batch, found), self._name(batch, i), bool(alike[i, found])) if there else Example("", "")
            for i, (found, there) in enumerate(zip(nearest, both.tolist(), strict=True))
        ]

    @property
    def columns(self) -> dict[str, Any]:
        vectors = {f"vector/{name}": list[float] for name in self.pair}
        return vectors if self.label is None else {"truth": str, **vectors}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The vector of each name, of length 1, and the class by which samples match."""
        columns = {
            f"vector/{name}": where(batch.present(name).tolist(), self.vectors(model, batch, name).tolist())
            for name in self.pair
        }
        if self.label is not None:
            names = (self._name(batch, index) for index in range(len(batch)))
            columns["truth"] = where(batch.present(self.label).tolist(), names)
        return columns

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``vector.NAME`` of each of the two names, ``(B, size)``, of length 1; the cosine of two is their product."""
        return {f"vector.{name}": self.vectors(model, batch, name) for name in self.pair}

    def similarities(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B B"]:
        """Cosines of each sample's first (rows) with each sample's second (columns)."""
        one, other = (self.vectors(model, batch, name) for name in self.pair)
        return one @ other.T

    def vectors(self, model: MultimodalTransformer, batch: Batch, name: str) -> Float[Tensor, "B size"]:
        """The vectors of one name, of length 1."""
        is_tower = name in model.encoded
        pooled = self.pools[name](model.encode(batch, name) if is_tower else model.run(model.tokenize(batch, [name])))
        return F.normalize(self.projections[name](pooled).float(), dim=1)

    @property
    def _back(self) -> str:
        return f"{self.second}_to_{self.first}"

    def _both(self, batch: Batch) -> Bool[Tensor, " B"]:
        return batch.present(self.first) & batch.present(self.second)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Loads checkpoints of an earlier version, in which the scale is a scalar, as well."""
        key = f"{prefix}log_scale"
        if key in state_dict:
            state_dict[key] = state_dict[key].reshape(-1)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _alike(self, batch: Batch) -> Bool[Tensor, "B B"]:
        """Which samples match."""
        alike = torch.eye(len(batch), dtype=torch.bool, device=batch.lengths[self.first].device)
        if self.label is None:
            return alike
        label, present = batch[self.label]["class"], batch.present(self.label)
        return alike | ((label[:, None] == label) & present & present[:, None])

    def _name(self, batch: Batch, i: int) -> str:
        if self.label is None:
            return f"sample {i}"
        index = int(batch[self.label]["class"][i])
        return self.names[index] if self.names else str(index)


def _found(
    similarities: Float[Tensor, "B B"], candidates: Bool[Tensor, "B B"], right: Bool[Tensor, "B B"]
) -> list[Bool[Tensor, " B"]]:
    """For each rank, whether a right one is among so many nearest candidates."""
    order = similarities.masked_fill(~candidates, -2.0).argsort(dim=1, descending=True, stable=True)
    hits = (right & candidates).gather(1, order)
    return [hits[:, :rank].any(1) for rank in RANKS]
