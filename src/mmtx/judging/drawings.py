"""Pictures that a model draws, judged by a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mmtx.batch import Batch
from mmtx.codes.decodes import Decodes, decodes_into
from mmtx.codes.pixels import Pictures
from mmtx.data.loaders import DataModule
from mmtx.errors import UserError
from mmtx.judging.copying import copied_share
from mmtx.judging.frechet import frechet_distance
from mmtx.judging.reader import Read, Reader
from mmtx.learner import Learner
from mmtx.objectives.capabilities import DrawsCodes, Makes
from mmtx.process.stopping import track


@dataclass
class _Seen:
    """Pictures, and what the judge makes of them."""

    pixels: list[Tensor] = field(default_factory=list)
    read: list[Read] = field(default_factory=list)

    def add(self, pixels: Num[Tensor, "B C height width"], read: Read) -> None:
        self.pixels.append(pixels)
        self.read.append(read)

    @property
    def classes(self) -> Tensor:
        return torch.cat([each.classes for each in self.read]).cpu()

    @property
    def features(self) -> Tensor:
        return torch.cat([each.features for each in self.read]).cpu()

    @property
    def vectors(self) -> Tensor:
        """A vector of pixels for each picture."""
        return torch.cat(self.pixels).cpu().flatten(1).float()


def judge_drawings(
    learner: Learner,
    judge: Reader,
    data: DataModule,
    split: str,
    *,
    generator: torch.Generator,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, float]:
    """A picture is drawn for every sample of a split, given all but its picture, and the judge reads it.

    ``conditional_accuracy``: the share that is read as the sample's class; ``judge_accuracy``, of the real pictures.
    ``frechet``: the distance of what is drawn from what is real in the judge's features, between halves of the samples;
    ``frechet_halves``: that of the two real halves. ``copied``: see `copied_share`; all three kinds of pictures have
    gone through their codes there, if they have any, so that these put none of them further away.

    Args:
        learner: in eval mode, on the device to compute on.
        judge: on the same device.
        data: with the pictures, the classes and the codes; nothing of it is augmented.
        split: that is drawn.
        generator: draws the codes, or the noise.
        options: how, see `Pencil.method`.

    Raises:
        UserError: nothing of the learner draws pictures; a split is empty.
    """
    pencil = Pencil.of(learner)
    drawn, real, again, truth = _Seen(), _Seen(), _Seen(), []
    for batch in split_batches(data, split, generator.device):
        pictures = (
            pencil.drawn(learner, batch, generator, **options),
            batch[judge.image]["pixels"],
            pencil.again(batch),
        )
        for seen, pixels in zip((drawn, real, again), pictures, strict=True):
            seen.add(pixels, judge.read(pixels.to(generator.device)))
        truth.append(batch[judge.label]["class"].cpu())
    learnt = [pencil.again(batch) for batch in split_batches(data, "train")]
    if len(real.read) == 0 or len(real.classes) < 4 or not learnt:
        raise UserError(f"a judge needs at least 4 samples in split={split}, and some for training")
    classes, one, other = torch.cat(truth), slice(0, None, 2), slice(1, None, 2)
    halves = ((one, other), (other, one))
    metrics = {
        "conditional_accuracy": float((drawn.classes == classes).double().mean()),
        "judge_accuracy": float((real.classes == classes).double().mean()),
        "frechet": sum(frechet_distance(drawn.features[a], real.features[b]) for a, b in halves) / 2,
        "frechet_halves": frechet_distance(real.features[one], real.features[other]),
        "copied": copied_share(drawn.vectors, again.vectors, torch.cat(learnt).flatten(1).float()),
    }
    if not pencil.has_codes:
        return metrics
    return metrics | {
        "judge_accuracy_of_codes": float((again.classes == classes).double().mean()),
        "frechet_of_codes": sum(frechet_distance(again.features[a], real.features[b]) for a, b in halves) / 2,
    }


class Pencil:
    """Draws the pictures of a batch, in codes or as pixels.

    Args:
        objective: of a learner.
        vocabulary: of the codes; None: it draws pixels.
    """

    def __init__(self, objective: DrawsCodes | Makes, vocabulary: Decodes | None) -> None:
        self.objective, self._vocabulary, self._name = objective, vocabulary, objective.writes or ""

    @classmethod
    def of(cls, learner: Learner) -> Pencil:
        """That of a learner. Raises UserError where nothing of it draws pictures."""
        for name in learner.objectives:
            objective = learner.objective(name)
            spec = learner.specs.get(getattr(objective, "writes", None) or "")
            if spec is not None and isinstance(objective, DrawsCodes) and decodes_into(spec.vocabulary, Pictures):
                return cls(objective, spec.vocabulary)
            if spec is not None and isinstance(objective, Makes) and objective.made_field == "pixels":
                return cls(objective, None)
        own = ", ".join(learner.objectives)
        raise UserError(f"nothing of this run draws pictures, or makes sounds: its objectives are {own}")

    @property
    def has_codes(self) -> bool:
        return self._vocabulary is not None

    @property
    def method(self) -> Callable[..., Tensor]:
        """That of the objective, whose keyword-only arguments are options."""
        if isinstance(self.objective, Makes):
            return self.objective.make
        return self.objective.draw_codes

    def drawn(
        self, learner: Learner, batch: Batch, generator: torch.Generator, **options: Any
    ) -> Num[Tensor, "B C height width"]:
        """A picture for each sample, on the host or the device."""
        if isinstance(self.objective, Makes):
            return self.objective.make(learner.model, batch, generator, len(batch), **options)
        assert self._vocabulary is not None
        return self._vocabulary.decoded(
            self.objective.draw_codes(learner.model, batch, generator, len(batch), **options)
        )

    def again(self, batch: Batch) -> Num[Tensor, "B C height width"]:
        """The pictures of the data, through their codes where there are any."""
        fields = batch[self._name]
        return fields["pixels"] if self._vocabulary is None else self._vocabulary.decoded(fields["ids"][:, 1:])


def split_batches(data: DataModule, split: str, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """The batches of a split, on a device."""
    for loader in data.eval_loaders(split, rank=0, num_ranks=1).values():
        for batches in track(loader, f"drawing, batch of {split}"):
            yield from (batch.to(device) for batch in batches)
