"""Pictures, and the codes that a trained codec has for them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.picture_codes import PictureCodes
from mmtx.data.places import Places
from mmtx.data.specs import text_spec
from mmtx.errors import InvalidValue


class CodedPictures(Source):
    """Names: those of the pictures, and ``codes``, the ids of the picture. Each picture is encoded once.

    Args:
        pictures: dataset with a name ``image``.
        vocabulary: the codes.
        augment: applied to training pictures, uint8 ``(C, height, width)``, before they are encoded; None: none.
    """

    def __init__(
        self, *, pictures: Source, vocabulary: PictureCodes, augment: Callable[[Tensor], Tensor] | None
    ) -> None:
        self._pictures, self.vocabulary, self.augment = pictures, vocabulary, augment
        self.fitted.vocabulary("codes", vocabulary, (), marks=True)
        field, codec = pictures.specs["image"].fields["pixels"], vocabulary.codec
        scale = 255.0 if field.dtype == torch.uint8 else 1.0
        if tuple(field.shape) != tuple(codec.shape) or scale != codec.scale:
            theirs, own = (" x ".join(map(str, shape)) for shape in (codec.shape, field.shape))
            problem = (
                f"has codes for pictures of {theirs} within 0..{codec.scale:g}; these are {own} within 0..{scale:g}"
            )
            raise InvalidValue("vocabulary.path", "the codec", problem)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {**self._pictures.specs, "codes": text_spec(self.vocabulary, self.vocabulary.num_tokens)}

    def train(self) -> Split:
        return self._coded(self._pictures.train(), self.augment)

    def val(self) -> Split | None:
        pictures = self._pictures.val()
        return None if pictures is None else self._coded(pictures, None)

    def test(self) -> Split | None:
        pictures = self._pictures.test()
        return None if pictures is None else self._coded(pictures, None)

    def places(self) -> Places:
        return self._pictures.places()

    def _coded(self, pictures: Split, augment: Callable[[Tensor], Tensor] | None) -> Split:
        def make(index: int) -> Sample:
            sample = pictures[index]
            pixels = sample["image"]["pixels"]
            pixels = augment(pixels) if augment else pixels
            return {**sample, "image": {"pixels": pixels}, "codes": {"ids": self.vocabulary.ids_of(pixels)}}

        return Samples(len(pictures), make)
