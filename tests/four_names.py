"""A small made-up dataset with a text, a picture, a sound and a trajectory, any of which a sample may lack."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.text.vocabulary import Characters

NAMES = ("text", "image", "audio", "state")
"""The trajectory is the name ``state``; what is done in it, ``action``, is there to be predicted."""

OVERRIDES = [
    *(f"modality.audio.spectrogram.{key}" for key in ("sample_rate_hz=800", "n_fft=32", "hop_length=8", "n_mels=6")),
    "modality.image.patch_size=4",
]
"""With which the yaml of its names fits it."""


class FourNames(Source):
    """Samples whose number says which of the names they lack; none lacks all."""

    def __init__(self, *, num_samples: int) -> None:
        self.num_samples, self.vocabulary = num_samples, Characters()
        self.vocabulary.fit(["abcdefghi"], marks=True)

    @property
    def specs(self) -> Mapping[str, Spec]:
        ids = Field((None,), torch.long, num_classes=self.vocabulary.size, max_length=9)
        times = Field((None,), torch.long, 20, 5, rising=True)
        return {
            "text": Spec({"ids": ids}, vocabulary=self.vocabulary),
            "image": Spec({"pixels": Field((1, 8, 8), torch.uint8)}),
            "audio": Spec({"waveform": Field((None,), torch.float32, max_length=96)}, sample_rate_hz=800),
            "state": Spec({"values": Field((None, 3), torch.float32, max_length=5), "times": times}),
            "action": Spec({"class": Field((None,), torch.long, 4, 5), "times": times}),
            "label": Spec({"class": Field((), torch.long, num_classes=3)}),
        }

    def train(self) -> Split:
        return Samples(self.num_samples, self.sample)

    def val(self) -> Split:
        return Samples(self.num_samples // 2, lambda i: self.sample(i + self.num_samples))

    def test(self) -> None:
        return None

    def sample(self, i: int) -> Sample:
        generator = torch.Generator().manual_seed(i)

        def integers(low: int, high: int, *shape: int) -> torch.Tensor:
            return torch.randint(low, high, shape, generator=generator)

        steps, letters = int(integers(1, 6)), "".join("abcdefghi"[n] for n in integers(0, 9, int(integers(1, 8))))
        assert self.vocabulary.begin is not None and self.vocabulary.end is not None
        ids = [self.vocabulary.begin, *self.vocabulary.encode(letters), self.vocabulary.end]
        times = torch.arange(steps)
        whole: Sample = {
            "text": {"ids": torch.tensor(ids)},
            "image": {"pixels": integers(0, 256, 1, 8, 8).to(torch.uint8)},
            "audio": {"waveform": torch.randn(int(integers(20, 97)), generator=generator) * 0.3},
            "state": {"values": torch.randn(steps, 3, generator=generator), "times": times},
            "action": {"class": integers(0, 4, steps), "times": times},
        }
        lacks = {name for place, name in enumerate(NAMES) if i % 15 >> place & 1}
        lacks |= {"action"} if "state" in lacks else set()
        present = {name: parts for name, parts in whole.items() if name not in lacks}
        return {**present, "label": {"class": integers(0, 3, 1)[0]}}
