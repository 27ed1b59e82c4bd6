"""Pictures of digits with captions in several phrasings."""

import random
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.image.digits import NAMES
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue


class CaptionedDigits(Source):
    """Names: ``image``, ``text`` (a caption), ``references`` (all correct captions), ``label``.

    In training, the phrasing of a caption is redrawn each time; in validation and test it is a function of
    (`split_seed`, split, index).

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        vocabulary: of captions.
        augment: applied to training pictures, uint8 ``(C, H, W)``.
        phrasings: of captions; ``{}`` stands for the English name of the digit.
        split_seed: of the phrasings in validation and test.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        vocabulary: TextVocabulary,
        augment: Callable[[Tensor], Tensor],
        phrasings: list[str],
        split_seed: int,
    ) -> None:
        for phrasing in phrasings:
            if phrasing.count("{}") != 1:
                raise InvalidValue("phrasings", phrasing, "must hold {} once, where the name of the digit belongs")
        if not phrasings:
            raise InvalidValue("phrasings", phrasings, "must hold at least one", '["a {}"]')
        self.pictures, self.vocabulary, self.augment, self.seed = pictures, vocabulary, augment, split_seed
        captions = [[phrasing.replace("{}", name) for phrasing in phrasings] for name in NAMES]
        texts = [caption for each in captions for caption in each]
        self.fitted.vocabulary("text", vocabulary, texts, marks=True)
        begin, end = vocabulary.begin, vocabulary.end
        assert begin is not None and end is not None
        ids = [[[*vocabulary.encode(caption), end] for caption in each] for each in captions]
        self._captions = [[torch.tensor([begin, *caption]) for caption in each] for each in ids]
        self._references = [torch.tensor([i for caption in each for i in caption]) for each in ids]

    @property
    def specs(self) -> Mapping[str, Spec]:
        longest = max(len(caption) for each in self._captions for caption in each)
        return {
            "image": self.pictures.specs["image"],
            "text": text_spec(self.vocabulary, longest),
            "references": text_spec(self.vocabulary, max(map(len, self._references))),
            "label": self.pictures.specs["label"],
        }

    def train(self) -> Split:
        pictures = self.pictures.train()
        return Samples(len(pictures), partial(self._train_sample, pictures))

    def val(self) -> Split | None:
        return self._held_out("val", self.pictures.val())

    def test(self) -> Split | None:
        return self._held_out("test", self.pictures.test())

    def _held_out(self, split: str, pictures: Split | None) -> Split | None:
        return None if pictures is None else Samples(len(pictures), partial(self._held_out_sample, split, pictures))

    def _train_sample(self, pictures: Split, i: int) -> Sample:
        sample = self._sample(pictures[i], int(torch.randint(self._num_phrasings, ())))
        return {**sample, "image": {"pixels": self.augment(sample["image"]["pixels"])}}

    def _held_out_sample(self, split: str, pictures: Split, i: int) -> Sample:
        return self._sample(pictures[i], random.Random(f"{self.seed} {split} {i}").randrange(self._num_phrasings))

    @property
    def _num_phrasings(self) -> int:
        return len(self._captions[0])

    def _sample(self, sample: Sample, phrasing: int) -> Sample:
        digit = int(sample["label"]["class"])
        return {
            "image": sample["image"],
            "text": {"ids": self._captions[digit][phrasing]},
            "references": {"ids": self._references[digit]},
            "label": sample["label"],
        }
