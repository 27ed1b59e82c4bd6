"""Metrics of some samples beside those of all: of every speaker, of every kind of vehicle."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Num, Shaped
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue, nearest
from mmtx.metric_directions import Direction
from mmtx.objectives.base import Score

Pairs = Mapping[str, tuple[Shaped[Tensor, "B ..."], Shaped[Tensor, "B ..."]]]
"""``{name: (sum, count)}`` of each sample."""

SAMPLES = "samples"
"""The statistic that counts the samples of each slice."""


class Slices:
    """Splits sums over samples by the classes of some names of the data, such as speakers.

    The metrics of a slice are named ``<metric>/<name>=<class>``, as ``accuracy/speaker=jackson``. Characters of a class
    other than letters, digits, ``-`` and ``_`` become ``_``, since neither paths of metrics nor W&B bear them. A sample
    that lacks such a name is in no slice of it; a slice without samples has no metrics.

    Args:
        names: of the data, each with a field ``class``.
        specs: of the data.

    Raises:
        InvalidValue: a name stands twice, is not there, or has no classes.
    """

    column_kind = "label"

    def __init__(self, names: Sequence[str], specs: Mapping[str, Spec]) -> None:
        self.classes: dict[str, list[str]] = {}
        for name in names:
            if name in self.classes:
                raise InvalidValue("slices", list(names), f"names {name} twice")
            if name not in specs:
                raise InvalidValue("slices", list(names), f"names {name}, which the data lacks; {nearest(name, specs)}")
            field = specs[name].fields.get("class")
            if field is None or field.shape or not field.num_classes:
                raise InvalidValue("slices", list(names), f"names {name}, which has no class for each sample")
            self.classes[name] = _legible(specs[name].class_names or tuple(map(str, range(field.num_classes))))

    def sums(
        self, batch: Batch, each: Pairs, real: Bool[Tensor, " B"], *, training: bool
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums over all samples, and in a row of ``<statistic>/<name>`` those over the samples of each class.

        Args:
            batch: with the names, or without.
            each: statistics of each sample.
            real: which samples something is predicted of.
            training: a step of training has no slices, which would be of a few samples each.
        """
        found = {statistic: (value.sum(0), count.sum(0)) for statistic, (value, count) in each.items()}
        for name in (name for name in self.classes if name in batch and not training):
            codes = self._codes(batch, name)
            members = F.one_hot(codes + 1, len(self.classes[name]) + 1)[:, 1:].T.double()
            for statistic, pair in {SAMPLES: (real, real), **each}.items():
                value, count = (_by_class(members, of_sample) for of_sample in pair)
                found[f"{statistic}/{name}"] = value, count
        return found

    def rows(self, batch: Batch) -> dict[str, tuple[Int[Tensor, " B"]]]:
        """The class of each sample, or -1, for metrics that need rows."""
        return {f"{SAMPLES}/{name}": (self._codes(batch, name),) for name in self.classes}

    def metrics(self, score: Score, of: Callable[[Score], Mapping[str, float]]) -> dict[str, float]:
        """The metrics of all samples, and of every slice that has any.

        Args:
            score: summed, with what `sums` and `rows` gave.
            of: the metrics of a score.
        """
        found = dict(of(score))
        for name, classes in self.classes.items():
            for ending, own in self._parts(score, name, classes):
                found |= {f"{metric}/{ending}": value for metric, value in of(own).items()}
        return found

    def directions(self, own: Mapping[str, Direction | None]) -> dict[str, Direction | None]:
        """The directions of these metrics, and of the same of every slice."""
        endings = [f"/{name}={label}" for name, classes in self.classes.items() for label in classes]
        return {f"{metric}{ending}": better for ending in ("", *endings) for metric, better in own.items()}

    def _parts(self, score: Score, name: str, classes: Sequence[str]) -> Iterator[tuple[str, Score]]:
        """The end of the names of each slice that has samples, and its score."""
        ending = f"/{name}"
        sums = {key.removesuffix(ending): pair for key, pair in score.stats.items() if key.endswith(ending)}
        numbers = sums.pop(SAMPLES)[1].tolist() if sums else []
        for code in (code for code, number in enumerate(numbers) if number):
            stats = {key: (value[code], count[code]) for key, (value, count) in sums.items()}
            yield f"{name}={classes[code]}", Score(score.loss_sum, score.count, stats, _rows_of(score, name, code))

    @staticmethod
    def _codes(batch: Batch, name: str) -> Int[Tensor, " B"]:
        if name not in batch:
            return torch.full_like(next(iter(batch.lengths.values())), -1)
        return torch.where(batch.present(name), batch[name]["class"], -1)


def _by_class(members: Num[Tensor, "classes B"], each: Shaped[Tensor, "B *shape"]) -> Num[Tensor, "classes *shape"]:
    """Sums over the samples of each class."""
    sums = members @ each.detach().double().reshape(len(each), -1)
    return sums.view(-1, *each.shape[1:])


def _rows_of(score: Score, name: str, code: int) -> dict[str, tuple[Tensor]]:
    if not score.rows:
        return {}
    whole = {key: torch.cat(rows) for key, rows in score.rows.items()}
    own = whole[f"{SAMPLES}/{name}"] == code
    return {key: (rows[own],) for key, rows in whole.items()}


def _legible(classes: Sequence[str]) -> list[str]:
    """Classes as names of metrics have them; those that would be the same end in their code."""
    plain = [re.sub(r"[^\w-]", "_", label) for label in classes]
    return [label if plain.count(label) == 1 else f"{label}_{code}" for code, label in enumerate(plain)]
