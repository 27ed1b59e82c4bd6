"""The log-mel spectrogram, exactly as Whisper defines it, of a batch of clips of any lengths.

Axes: B clips, S samples, T frames, F frequencies, M mel bins.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least

SAMPLES_AT_ONCE = 160_000
"""Samples that are transformed together on a CPU, so that the results stay in its cache."""


class MelSpectrogram(nn.Module):
    """Log-mel spectrogram (Radford et al. 2022, arXiv 2212.04356, section 2.2; Slaney's mel scale and normalisation).

    A centred short-time Fourier transform with a periodic Hann window, each clip mirrored at its own ends, its last
    frame dropped; squared magnitudes; triangular mel filters; ``log10`` of at least 1e-10; at most `dynamic_range`
    below the loudest bin of the clip; minus `mean`, divided by `std`. A clip of n samples has ``n // hop_length``
    frames, at least one. Whisper: 16 kHz, 400, 160, 80 or 128 bins, range 8, mean -4, std 4.

    Args:
        sample_rate_hz: of the waveforms.
        n_fft: samples of a window.
        hop_length: samples from a frame to the next.
        n_mels: mel bins, from 0 Hz to half the sample rate.
        dynamic_range: in powers of ten; None: unlimited.
        centre: subtract from each bin its mean over the clip, which removes the microphone's response (cepstral mean
            normalisation; Atal 1974).
        mean: subtracted from the logarithm.
        std: divides it after.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        n_fft: int,
        hop_length: int,
        n_mels: int,
        dynamic_range: float | None,
        centre: bool,
        mean: float,
        std: float,
    ) -> None:
        super().__init__()
        for key, value in (("sample_rate_hz", sample_rate_hz), ("hop_length", hop_length), ("n_mels", n_mels)):
            check_at_least(key, value, 1)
        if n_fft < 2 or n_fft % 2:
            raise InvalidValue("n_fft", n_fft, "must be even and at least 2")
        if std <= 0:
            raise InvalidValue("std", std, "must be above 0")
        self.sample_rate_hz, self.n_fft, self.hop_length, self.n_mels = sample_rate_hz, n_fft, hop_length, n_mels
        self.dynamic_range, self.centre, self.mean, self.std = dynamic_range, centre, mean, std
        # not buffers: they stay in float32 where a model is cast to a shorter type
        self._window = torch.hann_window(n_fft, dtype=torch.float64).float()
        self._filters = mel_filters(sample_rate_hz, n_fft, n_mels)
        empty = int((self._filters.sum(1) == 0).sum())
        if empty:
            fewer = "fewer bins or a larger n_fft"
            raise InvalidValue("n_mels", n_mels, f"leaves {empty} bins between the frequencies of n_fft={n_fft}", fewer)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that it was made with, as JSON."""
        keys = ("sample_rate_hz", "n_fft", "hop_length", "n_mels", "dynamic_range", "centre", "mean", "std")
        return {key: getattr(self, key) for key in keys}

    def num_frames(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Frames of clips of these many samples."""
        return torch.where(lengths > 0, (lengths // self.hop_length).clamp(min=1), 0)

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T M"]:
        """The spectrograms; samples behind the end of a clip are not read, and frames behind it are 0."""
        device = waveform.device
        self._window, self._filters = self._window.to(device), self._filters.to(device)
        with torch.autocast(device.type, enabled=False):
            if device.type != "cpu" or torch.compiler.is_exporting():
                return self._transform(waveform.float(), lengths)
            chunk = max(1, SAMPLES_AT_ONCE // waveform.shape[1])
            parts = [
                self._transform(clips.float(), ends)
                for clips, ends in zip(waveform.split(chunk), lengths.split(chunk), strict=True)
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def frequencies(self, mel: Float[Tensor, "B T M"]) -> Float[Tensor, "B T F"]:
        """The power of each frequency, of which frames of an uncentred spectrogram have been made: that of least
        squares, cut at 0."""
        power = 10 ** (mel * self.std + self.mean)
        return (power @ torch.linalg.pinv(self._filters.to(mel.device)).T).clamp(min=0)

    def _transform(self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T M"]:
        num_frames = max(1, waveform.shape[1] // self.hop_length)
        mirrored = mirror_ends(waveform, lengths, self.n_fft // 2)
        mel = (self._filters @ self._power(mirrored)[..., :num_frames]).clamp_(min=1e-10).log10_().transpose(1, 2)
        beyond = torch.arange(num_frames, device=mel.device)[:, None] >= self.num_frames(lengths)[:, None, None]
        if self.dynamic_range is not None:
            loudest = mel.masked_fill(beyond, -math.inf).amax((1, 2), keepdim=True)
            mel = torch.maximum(mel, loudest - self.dynamic_range)
        if self.centre:
            count = self.num_frames(lengths).clamp(min=1)[:, None, None]
            mel = mel - mel.masked_fill(beyond, 0.0).sum(1, keepdim=True) / count
        return mel.sub_(self.mean).div_(self.std).masked_fill_(beyond, 0.0)

    def _power(self, waveform: Float[Tensor, "B S"]) -> Float[Tensor, "B F T"]:
        """Squared magnitudes of the short-time Fourier transform, in an exported program by its definition: the fast
        one of ONNX runtimes is further from this than quiet frequencies are from 0."""
        if torch.compiler.is_exporting():
            waves = fourier_waves(self.n_fft) * self._window
            parts = F.conv1d(waveform[:, None], waves[:, None], stride=self.hop_length).chunk(2, dim=1)
            return parts[0].square() + parts[1].square()
        transform = torch.stft(
            waveform, self.n_fft, self.hop_length, window=self._window, center=False, return_complex=True
        )
        return transform.real.square() + transform.imag.square()


def fourier_waves(n_fft: int) -> Float[Tensor, "F2 n_fft"]:
    """Cosines of all frequencies up to half the sample rate, then sines; computed in float64."""
    turns = torch.arange(n_fft // 2 + 1)[:, None] * torch.arange(n_fft) % n_fft
    angle = turns.double() * (2 * math.pi / n_fft)
    return torch.cat([angle.cos(), angle.sin()]).float()


def mirror_ends(
    waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"], width: int
) -> Float[Tensor, "B S_plus_2_width"]:
    """Each clip with its mirror image at both of *its* ends (reflection padding); what follows means nothing."""
    count, longest = waveform.shape
    near = torch.arange(width, device=waveform.device)
    out = waveform.new_zeros(count, longest + 2 * width)
    out[:, width : width + longest] = waveform
    last = (lengths - 1).clamp(min=0)[:, None]
    out[:, :width] = waveform.gather(1, _bounce(width - near[None], last))
    out.scatter_(1, width + lengths[:, None] + near, waveform.gather(1, _bounce(last + 1 + near, last)))
    return out


def _bounce(index: Int[Tensor, "#B n"], last: Int[Tensor, "B 1"]) -> Int[Tensor, "B n"]:
    """Indices beyond 0..last reflected until they are within; the ends are not repeated."""
    period = (2 * last).clamp(min=1)
    index = index % period
    return torch.minimum(index, period - index).clamp(max=last)


def mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int) -> Float[Tensor, "M F"]:
    """Triangles of equal area, equally spaced on Slaney's mel scale; computed in float64.

    The scale is linear up to 1 kHz (200/3 Hz a mel) and logarithmic above (27 mels for a factor of 6.4), as in
    Slaney's Auditory Toolbox (1998) and librosa.
    """
    frequency = torch.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    top = torch.tensor(sample_rate_hz / 2, dtype=torch.float64)
    corner = _mel_to_hz(torch.linspace(0, 1, n_mels + 2, dtype=torch.float64) * _hz_to_mel(top))
    rise = (frequency - corner[:-2, None]) / (corner[1:-1] - corner[:-2])[:, None]
    fall = (corner[2:, None] - frequency) / (corner[2:] - corner[1:-1])[:, None]
    area = 2 / (corner[2:] - corner[:-2])
    return (torch.minimum(rise, fall).clamp(min=0) * area[:, None]).float()


def _hz_to_mel(hz: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return torch.where(hz < 1000, hz * 3 / 200, 15 + (hz.clamp(min=1000) / 1000).log() * 27 / math.log(6.4))


def _mel_to_hz(mel: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * ((mel - 15) * math.log(6.4) / 27).exp())
