"""The interface of objectives, and the score that each returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, UserError
from mmtx.metric_directions import Directions
from mmtx.model import MultimodalTransformer
from mmtx.nn.roles import Role
from mmtx.objectives.step_sums import StepSums


@dataclass(frozen=True)
class Score:
    """A loss as a sum and a count, so that it adds up over batches, accumulation and ranks without bias.

    Attributes:
        loss_sum: summed over predictions.
        count: number of predictions, or the sum of their weights.
        stats: ``{name: (sum, count)}``, each a number or an array of them.
        rows: ``{name: tensors}``, a row for each sample, for metrics that no sums give, such as average precision.
    """

    loss_sum: Float[Tensor, ""]
    count: Num[Tensor, ""]
    stats: Mapping[str, tuple[Num[Tensor, ...], Num[Tensor, ...]]] = field(default_factory=dict)
    rows: Mapping[str, tuple[Shaped[Tensor, "_ ..."], ...]] = field(default_factory=dict)

    @staticmethod
    def nothing() -> Score:
        """The score of no prediction."""
        return Score(torch.zeros((), dtype=torch.double), torch.zeros((), dtype=torch.double))

    def __add__(self, other: Score) -> Score:
        """Sums are added, rows follow those that were there. Both have the same, or one has none."""
        stats = {**self.stats, **other.stats}
        for name in self.stats.keys() & other.stats.keys():
            (one, count), (another, its) = self.stats[name], other.stats[name]
            stats[name] = one + another, count + its
        rows = {name: self.rows.get(name, ()) + other.rows.get(name, ()) for name in {**self.rows, **other.rows}}
        return Score(self.loss_sum + other.loss_sum, self.count + other.count, stats, rows)

    def totals(self, device: torch.device | str | None = None) -> Score:
        """The same to be added up: detached, in float64, on a device or where it is."""

        def total(value: Tensor) -> Tensor:
            return value.detach().to(device or value.device, torch.double)

        stats = {name: (total(value), total(count)) for name, (value, count) in self.stats.items()}
        rows = {name: tuple(row.detach().to(device or row.device) for row in rows) for name, rows in self.rows.items()}
        return Score(total(self.loss_sum), total(self.count), stats, rows)

    def vector(self) -> Float[Tensor, " k"]:
        """All sums and counts, detached, in float64, one after the other."""
        pairs = [(self.loss_sum, self.count), *self.stats.values()]
        return torch.cat([value.detach().double().flatten() for pair in pairs for value in pair])

    def mean_loss(self) -> float:
        return float(self.loss_sum.detach() / self.count) if self.count else float("nan")

    def ratio(self, name: str) -> float:
        total, count = self.stats[name]
        return float(total / count) if count else float("nan")


@dataclass(frozen=True)
class Example:
    """One prediction and the truth, as text."""

    predicted: str
    truth: str
    right: bool | None = None


class Objective(nn.Module, ABC):
    """A head with its loss and statistics.

    Subclasses are constructed as ``Class(specs=..., model=..., **keys of the yaml)`` and raise ValueError where the
    set or the data lacks what they need.

    Args:
        weight: of this objective's mean loss in the total.

    Attributes:
        coded: parameters that have a row for each code of the data, such as a head's, and the name of the data that
            the codes are of. A model that begins with another's weights takes these rows by the names of the codes.
        step_sums: within a step of training, what `sum_over_step` reads.
    """

    labels: tuple[str, ...] = ()
    """Names of the data that this objective needs besides those it reads."""

    slice_names: tuple[str, ...] = ()
    """Names of the data by whose classes its metrics are given besides those of all. It applies without them, too."""

    uses_reference: bool = False
    """Whether it compares with the model as it was at the start of the run: `reference`."""

    rolls_out: bool = False
    """Whether `prepare` runs the model in training, which each rank does as often as it has to."""

    uses_statistics: bool = False
    """Whether its loss depends on what layers count, ``model.statistics``, over the whole step: `sum_over_step`. It is
    then called after the others, and a step of training first computes all its micro-batches without gradients."""

    column_kind: str | None = None
    """Of a column of a table that it predicts, see `mmtx.data.manifest.column_kinds`; None: as the values are."""

    reads: tuple[str, ...] = ()
    """Names of the set whose hidden states it needs; empty where those of any name will do."""

    streams: tuple[str, ...] = ()
    """Names of texts that may be longer than their context in evaluations, where it streams them."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.coded: dict[str, str] = {}
        self._reference: tuple[MultimodalTransformer, ...] = ()  # in a tuple, so that it is no part of this module
        self.step_sums: StepSums | None = None
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidValue("weight", weight, "must be at least 0")
        self.weight = weight

    roles: Mapping[str, Role] = {"head.weight": "head"}
    """Of parameters, see `mmtx.nn.roles`."""

    directions: Directions = {}
    """Of each metric besides ``loss``, whether lower or higher is better: ``"min"``, ``"max"``, or None for neither."""

    @property
    def reference(self) -> MultimodalTransformer:
        """The model at the start of the run: a frozen copy in eval mode, without gradients.

        Raises:
            UserError: there is none, as this model was loaded for inference.
        """
        if not self._reference:
            raise UserError(
                f"{type(self).__name__} compares with the model at the start of its run, which is not loaded"
            )
        return self._reference[0]

    def sum_over_step(self, sums: Mapping[str, Num[Tensor, "*shape"]]) -> Mapping[str, Num[Tensor, "*shape"]]:
        """Sums of this batch, such as ``model.statistics``, added up over all micro-batches and ranks of the step of
        training, without gradients; in an evaluation, those of the batch alone. `forward` calls it once.

        Raises:
            ValueError: it does not say that it `uses_statistics`.
        """
        if not self.uses_statistics:
            raise ValueError(f"{type(self).__name__} has sums over a step only with uses_statistics = True")
        own = {name: value.detach() for name, value in sums.items()}
        return own if self.step_sums is None else self.step_sums.of(own)

    @property
    def needs(self) -> tuple[str, ...]:
        """All names without which it does not apply."""
        return (*self.labels, *self.reads)

    def applies(self, names: Batch | Container[str]) -> bool:
        """Whether a batch, or data of these names, has all that it needs; a part of a mixture may not."""
        return all(name in names for name in self.needs)

    @abstractmethod
    def count(self, batch: Batch) -> Num[Tensor, ""]:
        """The number of predictions in the batch, or the sum of their weights, before the forward pass; equals the
        score's count."""

    @abstractmethod
    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        """The loss and statistics of a batch."""

    @abstractmethod
    def metrics(self, score: Score) -> dict[str, float]:
        """Metrics of summed scores, by their field's definitions: ``loss`` always, and those of `directions`."""

    @abstractmethod
    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """A prediction for every sample; none at all where it predicts nothing that people could read."""


def required_name(name: str, names: Collection[str], what: str, key: str) -> None:
    """Raises ValueError if `name` is not among `names`."""
    if name not in names:
        have = ", ".join(names) or "nothing"
        raise ValueError(f"{key}={name} names no {what}; there is {have}")


def required_spec(name: str, specs: Mapping[str, Spec], key: str) -> Spec:
    required_name(name, specs, "part of the data", key)
    return specs[name]
