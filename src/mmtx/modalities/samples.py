"""The samples of sound themselves, as frames of one number, in the place of a spectrogram."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.sound_augment import SoundAugment

VARIANCE_EPS = 1e-7
"""Added to the variance of a clip (fairseq and `transformers`, wav2vec 2.0)."""


class Samples(nn.Module):
    """A waveform as it is, a frame for each sample: what wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477) and HuBERT
    read.

    Args:
        sample_rate_hz: of the waveforms.
        normalise: each clip has mean 0 and variance 1 over its own samples.
    """

    hop_length, n_mels, decibel = 1, 1, 0.0

    def __init__(self, *, sample_rate_hz: int, normalise: bool) -> None:
        super().__init__()
        check_at_least("sample_rate_hz", sample_rate_hz, 1)
        self.sample_rate_hz, self.normalise = sample_rate_hz, normalise

    def check(self, augment: SoundAugment) -> None:
        """Raises InvalidValue for augmentation of frequencies, which samples do not have."""
        for key, value in (("equalise_db", augment.equalise_db), ("mel_masks", augment.mel_masks)):
            if value:
                problem = "changes frequencies, and modality/spectrogram=samples has none"
                raise InvalidValue(f"augment.{key}", value, problem, "0")

    def num_frames(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Frames of clips of these many samples."""
        return lengths

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B S 1"]:
        """The samples; those behind the end of a clip are not read, and are 0."""
        beyond = torch.arange(waveform.shape[1], device=waveform.device) >= lengths[:, None]
        waveform = waveform.float().masked_fill(beyond, 0.0)
        if self.normalise:
            count = lengths.clamp(min=1)[:, None]
            centred = (waveform - waveform.sum(1, keepdim=True) / count).masked_fill(beyond, 0.0)
            variance = centred.square().sum(1, keepdim=True) / count
            waveform = centred / (variance + VARIANCE_EPS).sqrt()
        return waveform[..., None]
