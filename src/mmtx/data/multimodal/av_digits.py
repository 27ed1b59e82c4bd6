"""Degraded pictures and recordings of digits, which complement each other (Vielzeuf et al. 2018, arXiv 1808.07275)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import ItemSource, Source, Split
from mmtx.errors import InvalidValue, UserError


class AVDigits(ItemSource):
    """Names: ``image``, ``audio``, ``label``. A sample is a clip of a spoken digit, and a picture of the same digit.

    As in AV-MNIST, pictures keep a share of their energy (of their variance, by principal components), and noise is
    added to the sound, white noise here. In training, the picture and the noise of a clip are redrawn each time; in
    validation and test they are a function of (`split_seed`, split, index). Each split takes its pictures and clips
    from that split of the two sources.

    Args:
        pictures: dataset with names ``image`` and ``label``.
        voices: dataset with names ``audio`` and ``label``, with as many classes.
        augment: applied to training pictures before the degradation, uint8 ``(C, H, W)``.
        picture_energy: pictures keep the first principal components of the training pictures, one at least, as many
            as together have at most this share of the variance; 1: pictures are unchanged.
        voice_snr_db: signal-to-noise ratio of the sound, in dB; null: no noise.
        split_seed: of the draws for validation and test.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        voices: Source,
        augment: Callable[[Tensor], Tensor],
        picture_energy: float,
        voice_snr_db: float | None,
        split_seed: int,
    ) -> None:
        if not 0 < picture_energy <= 1:
            raise InvalidValue("picture_energy", picture_energy, "must lie above 0 and up to 1")
        self.specs_of_parts = {"image": pictures.specs["image"], "audio": voices.specs["audio"]}
        self.label, self.augment, self.snr_db, self.seed = pictures.specs["label"], augment, voice_snr_db, split_seed
        self._parts = {
            name: _Pairs(name, images, clips)
            for name, images, clips in (
                ("train", pictures.train(), voices.train()),
                ("val", pictures.val(), voices.val()),
                ("test", pictures.test(), voices.test()),
            )
            if images is not None and clips is not None
        }
        self.items = {split: range(len(pairs.clips)) for split, pairs in self._parts.items()}
        self._blur = None
        if picture_energy < 1:
            components = self.fitted.statistic("image", "components", lambda: _components(self._parts["train"].pixels))
            self._blur = _Blur(components, picture_energy)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {**self.specs_of_parts, "label": self.label}

    def sample(self, item: int, split: str) -> Sample:
        pairs, augment, generator = self._parts[split], self.augment, torch.default_generator
        if split != "train":
            seed = random.Random(f"{self.seed} {split} {item}").getrandbits(63)
            augment, generator = torch.nn.Identity(), torch.Generator().manual_seed(seed)
        clip = pairs.clips[item]
        pixels = augment(pairs.picture(int(clip["label"]["class"]), generator))
        pixels = pixels if self._blur is None else self._blur(pixels)
        waveform = clip["audio"]["waveform"]
        if self.snr_db is not None:
            waveform = _add_noise(waveform, self.snr_db, generator)
        return {"image": {"pixels": pixels}, "audio": {"waveform": waveform}, "label": clip["label"]}


class _Pairs:
    """The clips of one split, and its pictures by class."""

    def __init__(self, split: str, images: Split, clips: Split) -> None:
        self.clips = clips
        samples = [images[i] for i in range(len(images))]
        self.pixels = torch.stack([sample["image"]["pixels"] for sample in samples])
        classes = torch.tensor([int(sample["label"]["class"]) for sample in samples])
        spoken = {int(clips[i]["label"]["class"]) for i in range(len(clips))}
        self._of_class = {label: (classes == label).nonzero()[:, 0] for label in spoken}
        missing = [label for label, found in self._of_class.items() if not len(found)]
        if missing:
            raise UserError(
                f"class {missing[0]} is in the {split} part of data.voices, and has no picture in that of data.pictures"
            )

    def picture(self, label: int, generator: torch.Generator) -> UInt8[Tensor, "C H W"]:
        """A random picture of this class."""
        choices = self._of_class[label]
        return self.pixels[choices[torch.randint(len(choices), (), generator=generator)]].clone()


class _Blur:
    """Projects pictures on their first principal components."""

    def __init__(self, components: Mapping[str, Tensor], energy: float) -> None:
        shares = components["variances"].cumsum(0) / components["variances"].sum()
        self.mean, self.axes = components["mean"], components["axes"][:, : max(1, int((shares <= energy).sum()))]

    def __call__(self, pixels: UInt8[Tensor, "C H W"]) -> UInt8[Tensor, "C H W"]:
        projected = (pixels.flatten().double() - self.mean) @ self.axes @ self.axes.T + self.mean
        return projected.round().clamp(0, 255).to(torch.uint8).view_as(pixels)


def _components(pixels: UInt8[Tensor, "N C H W"]) -> dict[str, Tensor]:
    """The principal components of pictures: ``mean``, and ``axes`` with the ``variances`` along them, in falling
    order."""
    flat = pixels.flatten(1).double()
    mean = flat.mean(0)
    variances, axes = torch.linalg.eigh((flat - mean).T @ (flat - mean))
    return {"mean": mean, "variances": variances.flip(0), "axes": axes.flip(1)}


def _add_noise(
    waveform: Float[Tensor, " samples"], snr_db: float, generator: torch.Generator
) -> Float[Tensor, " samples"]:
    """The clip with white noise, scaled to the clip's peak."""
    noise = torch.randn(len(waveform), generator=generator) * waveform.square().mean().sqrt() * 10 ** (-snr_db / 20)
    noisy = waveform + noise
    return noisy * (waveform.abs().max() / noisy.abs().max().clamp(min=1e-9))
