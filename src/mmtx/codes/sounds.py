"""Sounds as grids of the numbers of their mel spectrograms."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.content import Content
from mmtx.errors import InvalidValue
from mmtx.sound.griffin_lim import griffin_lim
from mmtx.sound.mel_spectrogram import MelSpectrogram

PHASE_ITERATIONS = 32
"""Of the algorithm of Griffin and Lim."""


class Sounds(Content):
    """Frames of spectrograms, whose mel bins are channels.

    Args:
        spectrogram: of waveforms at the rate of the data, uncentred.
        longest: samples of the longest clip.
        is_padded: every clip is as long as that, with silence behind it that counts as real.
    """

    field, is_ragged = "frames", True

    def __init__(self, *, spectrogram: MelSpectrogram | Mapping[str, Any], longest: int, is_padded: bool) -> None:
        made = spectrogram if isinstance(spectrogram, MelSpectrogram) else MelSpectrogram(**spectrogram)
        if made.centre:
            raise InvalidValue("spectrogram.centre", True, "leaves out how loud each frequency is", "false")
        self.spectrogram, self.longest, self.is_padded = made, longest, is_padded
        self.sizes = (made.n_mels, int(made.num_frames(torch.tensor([longest]))))

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B C *axes"]:
        waveform = fields["waveform"]
        if self.is_padded:
            beyond = torch.arange(waveform.shape[1], device=waveform.device) >= lengths[:, None]
            waveform = F.pad(waveform.masked_fill(beyond, 0.0), (0, self.longest - waveform.shape[1]))
        return self.spectrogram(waveform, self._counted(lengths)).transpose(1, 2)

    def num_numbers(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return self.spectrogram.num_frames(self._counted(lengths))

    def values(self, numbers: Float[Tensor, "B C *axes"]) -> Float[Tensor, "B T M"]:
        return numbers.transpose(1, 2)

    def waveform(self, frames: Float[Tensor, "B T M"]) -> Float[Tensor, "B S"]:
        """Sounds that have such spectrograms, see `griffin_lim`."""
        return griffin_lim(frames, self.spectrogram, PHASE_ITERATIONS)

    def seconds(self, num_frames: int) -> float:
        """How long so many frames are."""
        return num_frames * self.spectrogram.hop_length / self.spectrogram.sample_rate_hz

    @property
    def settings(self) -> dict[str, Any]:
        return {"spectrogram": self.spectrogram.settings, "longest": self.longest, "is_padded": self.is_padded}

    @property
    def described(self) -> str:
        return _described(self.longest, self.spectrogram.sample_rate_hz)

    def misfit(self, spec: Spec) -> str | None:
        rate, longest = spec.sample_rate_hz or 0, spec.fields["waveform"].max_length or 0
        fits = rate == self.spectrogram.sample_rate_hz and longest <= self.longest
        return None if fits else _described(longest, rate)

    def _counted(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return torch.where(lengths > 0, self.longest, 0) if self.is_padded else lengths


def _described(longest: int, rate_hz: int) -> str:
    seconds = f"{longest / rate_hz:g} s" if rate_hz else f"{longest} samples"
    return f"sounds of up to {seconds} at {rate_hz} Hz"
