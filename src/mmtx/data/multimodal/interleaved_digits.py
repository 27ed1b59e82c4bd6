"""Documents in which words and pictures of digits alternate."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource, Source
from mmtx.data.image.digits import NAMES
from mmtx.data.specs import text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, check_within

MARK, STOP = "*", ". "
"""Of a picture, which stands right behind its mark; and behind a picture and its caption."""


class InterleavedDigits(ItemSource):
    """Names: ``text``, all words of a document; ``image``, its pictures, one to `most_pictures`. Both have ``times``,
    where among each other they stand: ``*the digit seven. the digit two*. `` has a picture behind either mark.

    The picture of index `i` is the first of document `i`; the others are drawn. In training, all but the first are
    redrawn each time, as are phrasings and places of captions; in validation and test, documents are a function of
    (`split_seed`, split, index).

    Args:
        pictures: dataset of digits, with names ``image`` and ``label``.
        vocabulary: of captions.
        augment: applied to training pictures, uint8 ``(C, H, W)``.
        phrasings: of captions; ``{}`` stands for the English name of the digit.
        most_pictures: of a document, at most 16; each number is as frequent.
        before: share of the captions that stand before their picture.
        split_seed: of documents in validation and test.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        vocabulary: TextVocabulary,
        augment: Callable[[Tensor], Tensor],
        phrasings: list[str],
        most_pictures: int,
        before: float | int,
        split_seed: int,
    ) -> None:
        check_within("most_pictures", most_pictures, 1, 16)
        check_within("before", before, 0, 1)
        if not phrasings:
            raise InvalidValue("phrasings", phrasings, "must hold at least one", '["a {}"]')
        for phrasing in phrasings:
            if phrasing.count("{}") != 1 or MARK in phrasing:
                problem = f"must hold {{}} once, where the name of the digit belongs, and no {MARK}, a picture's mark"
                raise InvalidValue("phrasings", phrasing, problem)
        self.vocabulary, self.augment, self.phrasings = vocabulary, augment, phrasings
        self.most_pictures, self.before, self.seed = most_pictures, before, split_seed
        self._specs_of_pictures = pictures.specs
        splits = {"train": pictures.train(), "val": pictures.val(), "test": pictures.test()}
        self._pictures = {split: found for split, found in splits.items() if found is not None}
        self.items = {split: range(len(found)) for split, found in self._pictures.items()}
        parts = [phrasing.replace("{}", name) + MARK + STOP for phrasing in phrasings for name in NAMES]
        self.fitted.vocabulary("text", vocabulary, [*parts, MARK], marks=True)
        encoded = [vocabulary.encode(part) for part in parts]
        self._mark = vocabulary.encode(MARK)[0]
        if any(ids.count(self._mark) != 1 for ids in encoded):
            raise InvalidValue("vocabulary", type(vocabulary).__name__, f"has no id that stands for {MARK} alone")
        self._longest = max(map(len, encoded)) * most_pictures + 2

    @property
    def specs(self) -> Mapping[str, Spec]:
        count, num_times = self.most_pictures, self._longest + self.most_pictures
        of_words, of_pictures = (
            Field((None,), torch.long, num_classes=num_times, max_length=longest, rising=True)
            for longest in (self._longest, count)
        )
        text, image = text_spec(self.vocabulary, self._longest), self._specs_of_pictures["image"]
        pixels = image.fields["pixels"]
        ragged = replace(pixels, shape=(None, *pixels.shape), max_length=count)
        return {
            "text": replace(text, fields={**text.fields, "times": of_words}),
            "image": replace(image, fields={"pixels": ragged, "times": of_pictures}),
        }

    def sample(self, item: int, split: str) -> Sample:
        drawn = random.Random(f"{self.seed} {split} {item}" if split != "train" else int(torch.randint(2**62, ())))
        others = drawn.randrange(self.most_pictures)
        chosen = [item, *(drawn.randrange(len(self._pictures[split])) for _ in range(others))]
        samples = [self._pictures[split][index] for index in chosen]
        parts = [self._part(int(sample["label"]["class"]), drawn) for sample in samples]
        pixels = torch.stack([sample["image"]["pixels"] for sample in samples])
        if split == "train":
            pixels = torch.stack([self.augment(picture) for picture in pixels])
        ids = torch.tensor(self.vocabulary.encode_marked("".join(parts)))
        behind = (ids == self._mark).long()
        times = torch.arange(len(ids)) + behind.cumsum(0) - behind
        return {
            "text": {"ids": ids, "times": times},
            "image": {"pixels": pixels, "times": times[ids == self._mark] + 1},
        }

    def _part(self, digit: int, drawn: random.Random) -> str:
        """A caption, with the mark of its picture before or behind it."""
        caption = drawn.choice(self.phrasings).replace("{}", NAMES[digit])
        return (caption + MARK if drawn.random() < self.before else MARK + caption) + STOP
