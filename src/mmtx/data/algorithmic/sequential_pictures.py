"""Pictures whose pixels come one after the other."""

from collections.abc import Mapping

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split


class SequentialPictures(Source):
    """Names: ``pixels``, ``label``: the pixels of a picture, row by row, a step each, and its class. What a pixel holds
    lies in -1 to 1.

    Args:
        pictures: dataset with names ``image`` and ``label``.
    """

    def __init__(self, *, pictures: Source) -> None:
        self._pictures = pictures

    @property
    def specs(self) -> Mapping[str, Spec]:
        specs = self._pictures.specs
        channels, height, width = (size or 0 for size in specs["image"].fields["pixels"].shape)
        values = Field((None, channels), torch.float32, max_length=height * width)
        return {"pixels": Spec({"values": values}), "label": specs["label"]}

    def train(self) -> Split:
        return self._sequential(self._pictures.train())

    def val(self) -> Split | None:
        pictures = self._pictures.val()
        return None if pictures is None else self._sequential(pictures)

    def test(self) -> Split | None:
        pictures = self._pictures.test()
        return None if pictures is None else self._sequential(pictures)

    @staticmethod
    def _sequential(pictures: Split) -> Split:
        def make(index: int) -> Sample:
            picture = pictures[index]
            values = picture["image"]["pixels"].flatten(1).T.float() / 127.5 - 1
            return {"pixels": {"values": values}, "label": picture["label"]}

        return Samples(len(pictures), make)
