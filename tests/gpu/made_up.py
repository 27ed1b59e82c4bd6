"""Data of noise for runs on machines that have nothing but torch, lightning and hydra-core: a package of a user."""

import torch

from mmtx.batch import Field, Spec
from mmtx.data.base import ItemSource
from mmtx.data.image.labelled_images import LabelledImages
from mmtx.data.specs import text_spec

COUNT, RATE, LETTERS = 40, 16_000, "abcd"


class Pictures(LabelledImages):
    """Names: ``image``, ``label``."""

    def __init__(self):
        pixels = torch.randint(0, 256, (COUNT, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pictures = pixels, torch.arange(COUNT) % 4
        super().__init__(
            train=pictures, test=pictures, class_names=tuple(LETTERS), augment=None, num_val=4, split_seed=0
        )


class Sounds(ItemSource):
    """Names: ``audio``, ``text``, both of unequal lengths."""

    def __init__(self, *, vocabulary):
        self.vocabulary = vocabulary
        self.fitted.vocabulary("text", vocabulary, [LETTERS], marks=True)
        self.items = {"train": range(COUNT), "val": range(4)}

    @property
    def specs(self):
        waveform = Field((None,), torch.float32, max_length=RATE // 2)
        return {"audio": Spec({"waveform": waveform}, sample_rate_hz=RATE), "text": text_spec(self.vocabulary, 8)}

    def sample(self, item, split):
        generator = torch.Generator().manual_seed(item)
        waveform = 0.1 * torch.randn(RATE // 4 + 50 * item, generator=generator)
        ids = torch.tensor(self.vocabulary.encode_marked(LETTERS[: 1 + item % 4]))
        return {"audio": {"waveform": waveform}, "text": {"ids": ids}}
