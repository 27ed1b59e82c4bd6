"""Pictures of digits with questions about them, and answers."""

from collections.abc import Callable

from torch import Tensor

from mmtx.batch import Sample
from mmtx.data.base import Source
from mmtx.data.multimodal.asked import Asked
from mmtx.data.text.vocabulary import TextVocabulary


class AskedDigits(Asked):
    """Names: ``image``, ``question``, ``text`` (its answer), ``label`` (of the digit).

    Each picture comes with every question, so that an epoch has as many samples of each. Without pictures, the most
    frequent answers are right in 0.37 of the samples.

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        vocabulary: of questions and answers.
        augment: applied to training pictures, uint8 ``(C, H, W)``.
    """

    def __init__(self, *, pictures: Source, vocabulary: TextVocabulary, augment: Callable[[Tensor], Tensor]) -> None:
        super().__init__(digits=pictures, vocabulary=vocabulary)
        self.augment = augment

    def sample(self, item: int, split: str) -> Sample:
        sample = super().sample(item, split)
        if split != "train":
            return sample
        return {**sample, "image": {"pixels": self.augment(sample["image"]["pixels"])}}
