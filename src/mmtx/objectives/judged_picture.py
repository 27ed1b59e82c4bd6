"""A reward of pictures by a classifier that was trained before."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.objectives.rewards import PictureReward


@runtime_checkable
class ReadsPictures(Protocol):
    """A trained classifier of pictures.

    Attributes:
        label: name of the classes.
    """

    label: str

    def classes(self, pixels: Num[Tensor, "N C height width"]) -> Int[Tensor, " N"]:
        """The best class of each, computed where the pictures lie; nothing is learnt."""


class JudgedPicture(PictureReward):
    """1 for a picture in which a trained classifier reads the class that it was drawn from, 0 for any other. Where a
    sample has no class, all have 0.

    The classifier is a run of its own, as for ``mmtx evaluate RUN judge=OTHER``. It stays as it is, and no checkpoint
    holds it: training, resuming and evaluating read it from its place. A model that is only loaded has no judge, and
    what it draws has a reward of NaN.

    Args:
        judge: place of the run that classifies.
    """

    def __init__(self, *, judge: str | None, weight: float) -> None:
        super().__init__(weight=weight)
        if not isinstance(judge, str):
            raise InvalidValue("judge", judge, "is no place of a run that classifies", "one of experiment=vit_digits")
        self.judge = judge
        self._reader: ReadsPictures | None = None

    def judge_by(self, reader: ReadsPictures) -> None:
        """Gives it the classifier."""
        self._reader = reader

    def __call__(self, pixels: Num[Tensor, "N C height width"], batch: Batch) -> Float[Tensor, " N"]:
        if self._reader is None:
            return torch.full((len(batch),), float("nan"), device=pixels.device)
        label = self._reader.label
        return ((self._reader.classes(pixels) == batch[label]["class"]) & batch.present(label)).float()
