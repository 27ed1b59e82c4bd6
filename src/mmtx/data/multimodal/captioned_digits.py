"""Pictures of digits with captions in several phrasings."""

import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.image.digits import NAMES
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, check_within


class CaptionedDigits(ItemSource):
    """Names: ``image``, ``text`` (a caption), ``references`` (all correct captions), ``label``; and ``before``, in
    place of the text, of those whose caption stands before its picture.

    In training, the phrasing and the place of a caption are redrawn each time; in validation and test they are a
    function of (`split_seed`, split, index).

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        vocabulary: of captions.
        augment: applied to training pictures, uint8 ``(C, H, W)``.
        phrasings: of captions; ``{}`` stands for the English name of the digit.
        split_seed: of the phrasings, and places, in validation and test.
        before: share of the captions that stand before their picture, which is to be made from it.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        vocabulary: TextVocabulary,
        augment: Callable[[Tensor], Tensor],
        phrasings: list[str],
        split_seed: int,
        before: float | int = 0.0,  # absent in stored configs of earlier versions
    ) -> None:
        check_within("before", before, 0, 1)
        for phrasing in phrasings:
            if phrasing.count("{}") != 1:
                raise InvalidValue("phrasings", phrasing, "must hold {} once, where the name of the digit belongs")
        if not phrasings:
            raise InvalidValue("phrasings", phrasings, "must hold at least one", '["a {}"]')
        self.vocabulary, self.augment, self.seed, self.before = vocabulary, augment, split_seed, before
        self._specs_of_pictures = pictures.specs
        splits = {"train": pictures.train(), "val": pictures.val(), "test": pictures.test()}
        self._pictures = {split: found for split, found in splits.items() if found is not None}
        self.items = {split: range(len(found)) for split, found in self._pictures.items()}
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
        text = text_spec(self.vocabulary, longest)
        return {
            "image": self._specs_of_pictures["image"],
            "text": text,
            **({"before": text} if self.before else {}),
            "references": text_spec(self.vocabulary, max(map(len, self._references))),
            "label": self._specs_of_pictures["label"],
        }

    def sample(self, item: int, split: str) -> Sample:
        picture = self._pictures[split][item]
        pixels, digit = picture["image"]["pixels"], int(picture["label"]["class"])
        captions = self._captions[digit]
        if split == "train":
            caption = captions[int(torch.randint(len(captions), ()))]
            is_before = bool(self.before) and float(torch.rand(())) < self.before
            pixels = self.augment(pixels)
        else:
            drawn = random.Random(f"{self.seed} {split} {item}")
            caption = captions[drawn.randrange(len(captions))]
            is_before = drawn.random() < self.before
        image, label = {"pixels": pixels}, picture["label"]
        if is_before:
            return {"image": image, "before": {"ids": caption}, "label": label}
        return {
            "image": image,
            "text": {"ids": caption},
            "references": {"ids": self._references[digit]},
            "label": label,
        }
